"use strict";
(() => {
  const data = JSON.parse(document.getElementById("viewer-data").textContent);
  const told = document.getElementById("viewer-told"), tools = document.getElementById("viewer-tools");
  const frame = document.getElementById("viewer-canvas"), place = document.getElementById("viewer-place");
  const about = document.getElementById("viewer-case"), canvas = frame.querySelector("canvas");
  const layersOf = tools.querySelector("fieldset");
  const OPACITY = 0.5, SHOWN = ["image", "prediction"];
  let viewer = null, wanted = 0, current = [];

  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  const say = (words) => { told.textContent = words; told.hidden = !words; };
  const percent = (share) => `${+(100 * share).toFixed(2)} %`;
  const caseName = (found) => `${found.rank}, ${found.label} (${found.metric} ${found.value.toFixed(found.value < 2 ? 3 : 1)})`;

  const colourTable = (classes) => {
    const entries = [{ value: 0, name: "", colour: "#000000" }, ...classes];
    const channel = (at) => entries.map(({ colour }) => parseInt(colour.slice(at, at + 2), 16));
    return { R: channel(1), G: channel(3), B: channel(5), A: entries.map(({ value }) => (value ? 255 : 0)),
      I: entries.map(({ value }) => value), labels: entries.map(({ name }) => name) };
  };

  const load = async (layer, window) => {
    const options = { base64: data.volumes[layer.volume], name: `${layer.name}.nii.gz`, colormap: "gray" };
    const isLabel = layer.classes.length > 0;
    if (!isLabel) Object.assign(options, { cal_min: window[0], cal_max: window[1] });
    const volume = await niivue.NVImage.loadFromBase64(options);
    if (isLabel) volume.setColormapLabel(colourTable(layer.classes));
    return volume;
  };

  const tellPlace = ({ mm, values }) => {
    const told = values.map(({ name, value }) => {
      const layer = current.find((one) => name.startsWith(one.name));
      if (!layer || layer.name === "differences") return "";
      if (!layer.classes.length) return `${layer.name} ${value.toFixed(2)}`;
      return `${layer.name} ${layer.classes.find((one) => one.value === value)?.name ?? "background"}`;
    });
    place.textContent = `${[...mm].slice(0, 3).map((x) => x.toFixed(0)).join(", ")} mm: ${told.filter(Boolean).join(", ")}`;
  };

  const keyOf = (classes) => classes.map(({ name, colour }) =>
    element("span", { className: "key" }, element("i", { style: `background:${colour}` }), name));

  const overlayTools = (layer, at) => {
    const box = element("input", { type: "checkbox", name: layer.name, checked: SHOWN.includes(layer.name) });
    const range = element("input", { type: "range", name: `${layer.name}-opacity`, min: 0, max: 1, step: 0.05,
      value: layer.name === "image" ? 1 : OPACITY, ariaLabel: `Opacity of ${layer.name}` });
    const apply = () => viewer.setOpacity(at, box.checked ? Number(range.value) : 0);
    box.addEventListener("input", apply);
    range.addEventListener("input", apply);
    apply();
    return element("div", {}, element("label", {}, box, ` ${layer.name}`), range, ...keyOf(layer.classes));
  };

  const show = (volumes) => {
    while (viewer.volumes.length) viewer.removeVolume(viewer.volumes[0]);
    volumes.forEach((volume) => viewer.addVolume(volume));
  };

  const imageTools = (layers, volumes) => layers.map((layer, at) => {
    const button = element("input", { type: "radio", name: "shown", value: layer.name, checked: at === 0 });
    button.addEventListener("input", () => {
      const where = [...viewer.scene.crosshairPos];
      show([volumes[at]]);
      viewer.scene.crosshairPos = where;
      viewer.drawScene();
      viewer.createOnLocationChange();
    });
    return element("div", {}, element("label", {}, button, ` ${layer.name}`));
  });

  const open = async (found) => {
    const turn = ++wanted;
    say("Loading ...");
    const volumes = await Promise.all(found.layers.map((layer) => load(layer, found.window)));
    if (turn !== wanted) return; // another case was chosen meanwhile
    current = found.layers;
    const hasLabels = found.layers.some((layer) => layer.classes.length);
    show(hasLabels ? volumes : volumes.slice(0, 1));
    layersOf.replaceChildren(element("legend", { textContent: "Layers" }),
      ...(hasLabels ? found.layers.map(overlayTools) : imageTools(found.layers, volumes)));
    viewer.scene.crosshairPos = viewer.mm2frac(found.mm);
    viewer.updateGLVolume();
    viewer.createOnLocationChange();
    about.textContent = `${found.title}, ${found.modality}, ${found.label}, trained on ${percent(found.fraction)} of the ` +
      `labels, seed ${found.seed}: the ${found.rank} case by ${found.metric}, subject ${found.subject} of ${found.site}` +
      (found.note ? `; ${found.note}` : "");
    say("");
    document.dispatchEvent(new CustomEvent("viewer", { detail: viewer }));
  };

  const chosen = () => data.cases.find((_, at) => String(at) === tools.elements.case.value);
  const fail = (error) => say(`The viewer could not show this case: ${error.message}`);
  const listCases = () => {
    const options = data.cases.map((found, at) => [found, at]).filter(([found]) => found.task === tools.elements.task.value);
    tools.elements.case.replaceChildren(...options.map(([found, at]) => element("option", { value: at }, caseName(found))));
    return open(chosen()).catch(fail);
  };

  const start = async () => {
    tools.hidden = frame.hidden = false;
    viewer = new niivue.Niivue({ backColor: [0, 0, 0, 1], crosshairWidth: 0.5, crosshairWidthUnit: "mm", crosshairGap: 6,
      crosshairColor: [0.2, 0.85, 0.4, 0.9], dragAndDropEnabled: false, isRadiologicalConvention: true, logLevel: "error",
      multiplanarShowRender: 0, onLocationChange: tellPlace });
    await viewer.attachToCanvas(canvas);
    viewer.setSliceType(3);
    const tasks = new Map(data.cases.map((found) => [found.task, found.title]));
    tools.elements.task.replaceChildren(...[...tasks].map(([value, text]) => element("option", { value }, text)));
    tools.elements.task.addEventListener("input", listCases);
    tools.elements.case.addEventListener("input", () => open(chosen()).catch(fail));
    tools.elements.view.addEventListener("input", () => viewer.setSliceType(Number(tools.elements.view.value)));
    tools.addEventListener("submit", (event) => event.preventDefault());
    await listCases();
  };

  if (!document.createElement("canvas").getContext("webgl2")) {
    say("This browser shows no WebGL 2, which the viewer needs; everything else on this page works without it.");
    return;
  }
  start().catch((error) => say(`The viewer could not start: ${error.message}`));
})();
