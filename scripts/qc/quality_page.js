"use strict";
(() => {
  const list = document.getElementById("rows");
  const rows = [...list.children];
  const tools = document.forms.tools;
  const dialog = document.querySelector("dialog");
  let shown = rows;
  let open = 0;

  const value = (row, key) => {
    const cell = row.querySelector(`[data-k="${key}"]`);
    return cell ? Number(cell.dataset.v) : -Infinity;
  };

  const compare = (key) => {
    const byName = (a, b) => (a.id < b.id ? -1 : 1);
    if (key === "name") return byName;
    const of = key === "outliers" ? (row) => Number(row.dataset.out) : (row) => value(row, key);
    const down = tools.order.value === "up" ? -1 : 1;
    return (a, b) => {
      const [x, y] = [of(a), of(b)];
      if (x === y) return byName(a, b);
      if (x === -Infinity || y === -Infinity) return x === -Infinity ? 1 : -1;
      return down * (y - x);
    };
  };

  const update = () => {
    const words = tools.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const passes = (row) =>
      (!tools.group.value || row.dataset.group === tools.group.value) &&
      (!tools.marked.checked || row.dataset.marked === "1") &&
      words.every((word) => row.dataset.text.includes(word));
    tools.order.disabled = tools.sort.value === "name";
    rows.sort(compare(tools.sort.value));
    list.append(...rows);
    shown = rows.filter(passes);
    rows.forEach((row) => { row.hidden = true; });
    shown.forEach((row) => { row.hidden = false; });
    tools.querySelector("output").textContent = `${shown.length} of ${rows.length} shown`;
  };

  const show = (number) => {
    open = (number + shown.length) % shown.length;
    const row = shown[open];
    const image = dialog.querySelector("img");
    image.src = row.querySelector(".picture").getAttribute("href");
    image.alt = row.querySelector("img").alt;
    dialog.querySelector("span").textContent = row.id;
    dialog.scrollTop = 0;
    if (!dialog.open) dialog.showModal();
  };

  list.addEventListener("click", (event) => {
    const link = event.target.closest(".picture");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    show(shown.indexOf(link.closest(".row")));
  });
  dialog.addEventListener("click", (event) => {
    const act = event.target.dataset.act;
    if (act === "next") show(open + 1);
    else if (act === "before") show(open - 1);
    else if (act === "close" || event.target === dialog) dialog.close();
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") show(open + 1);
    if (event.key === "ArrowLeft") show(open - 1);
  });
  tools.addEventListener("input", update);
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.hidden = false;
  update();
})();
