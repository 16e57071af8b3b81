// The viewer tells when a case is drawn. Pixels are read at once after drawing: the browser clears them later.
const told = {errors: []};
addEventListener("error", (event) => told.errors.push(event.message));
addEventListener("unhandledrejection", (event) => told.errors.push(String(event.reason)));
console.error = (...words) => told.errors.push(words.join(" "));
const acted = new Promise((resolve) => addEventListener("DOMContentLoaded", () => {
  const tools = document.getElementById("viewer-tools");
  let opened = () => {};
  const words = document.getElementById("viewer-told");
  const shown = () => new Promise((resolve, reject) => {
    opened = resolve;
    new MutationObserver(() => { if (words.textContent.includes("could not")) reject(words.textContent); })
      .observe(words, {childList: true});
  });
  document.addEventListener("viewer", (event) => { opened(event.detail); });
  const input = (name, values) => {
    const element = [...tools.elements].find((one) => one.name === name && (!values.of || one.value === values.of));
    Object.assign(element, values);
    element.dispatchEvent(new Event("input"));
  };
  const pixels = (viewer) => {
    viewer.opts.crosshairWidth = 0;
    viewer.drawScene();
    const gl = viewer.gl, width = gl.drawingBufferWidth, height = gl.drawingBufferHeight;
    const all = new Uint8Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, all);
    return {all, width, height};
  };
  const near = ({all}, colour) => {
    let count = 0;
    for (let at = 0; at < all.length; at += 4) count += colour.every((value, c) => Math.abs(all[at + c] - value) < 8);
    return count;
  };
  const mean = (all, value) => {
    let sum = 0;
    for (let at = 0; at < all.length; at += 4) sum += value(at);
    return sum / all.length * 4;
  };
  const grey = ({all}) => mean(all, (at) => all[at]);
  const changed = (a, b) => mean(a.all, (at) => a.all[at] !== b.all[at]);
  const roughness = ({all, width, height}) => {
    let sum = 0;
    for (let at = 4; at < all.length; at += 4) sum += Math.abs(all[at] - all[at - 4]);
    return sum / width / height;
  };
  const colours = {"grey matter": [255, 80, 80], "white matter": [80, 208, 255], CSF: [255, 208, 64]};
  const act = async () => {
    let viewer = await shown();
    told.size = [document.documentElement.scrollWidth, innerWidth];
    told.first = [...tools.elements.task.options].map((option) => option.text);
    told.listed = [...tools.elements.case.options].map((option) => option.text);
    told.placed = document.getElementById("viewer-place").textContent;
    const both = pixels(viewer);
    told.mean = grey(both);
    input("prediction", {checked: false});
    const alone = pixels(viewer);
    told.hidden = changed(both, alone);
    input("truth", {checked: true});
    told.truth = changed(pixels(viewer), alone);
    input("truth-opacity", {value: 1});
    input("image", {checked: false});
    const labels = pixels(viewer);
    told.areas = Object.fromEntries(Object.entries(colours).map(([name, colour]) => [name, near(labels, colour)]));
    input("truth", {checked: false});
    told.black = grey(pixels(viewer));
    input("differences", {checked: true});
    told.differ = near(pixels(viewer), [224, 96, 255].map((value) => value / 2));
    input("view", {value: "0"});
    let next = shown();
    input("case", {value: [...tools.elements.case.options].find((option) => option.text.startsWith("worst")).value});
    await next;
    told.about = document.getElementById("viewer-case").textContent;
    next = shown();
    input("task", {value: "ixi_denoise"});
    viewer = await next;
    told.rough = {noisy: roughness(pixels(viewer))};
    for (const of of ["clean", "denoised"]) {
      input("shown", {of, checked: true});
      told.rough[of] = roughness(pixels(viewer));
    }
    told.place = document.getElementById("viewer-place").textContent;
    told.tables = [...document.querySelectorAll(".wide")].map((one) => one.scrollWidth > one.clientWidth);
  };
  if (tools) act().catch((error) => told.errors.push(String(error))).finally(() => {
    told.resources = performance.getEntriesByType("resource").map((entry) => entry.name.split(":")[0]);
    resolve(told);
  });
}));
