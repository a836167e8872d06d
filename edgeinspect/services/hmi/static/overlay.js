// A picture of a frame with what was found in it laid over: class map and boxes.

import { h, svg } from "./dom.js";

// `colors`: class name to colour. Returns the element and `show(seq, verdict, size)`.
export function overlay(label) {
  const picture = h("img", { alt: label, class: "frame-picture", hidden: true });
  const mask = h("img", { alt: "", class: "frame-mask", hidden: true });
  const boxes = svg("svg", { class: "frame-boxes", preserveAspectRatio: "none", "aria-hidden": "true" });
  const none = h("p", { class: "frame-none", text: "No picture" });
  const element = h("div", { class: "frame" }, picture, mask, boxes, none);
  let wanted = 0;

  async function show(told, colors) {
    const turn = ++wanted;
    const load = async (path) => { const image = new Image(); image.src = path; await image.decode(); return image.src; };
    let sources;
    try {
      sources = await Promise.all([
        load(`picture/${told.seq}.jpg`),
        told.mask ? load(`mask/${told.seq}.png`).catch(() => "") : "",
      ]);
    } catch {
      return; // overwritten meanwhile: the one before stays
    }
    if (turn !== wanted) return;
    picture.src = sources[0];
    picture.hidden = false;
    none.hidden = true;
    element.style.setProperty("aspect-ratio", `${told.width_px} / ${told.height_px}`);
    element.style.setProperty("--ratio", told.width_px / told.height_px);
    if (sources[1]) mask.src = sources[1];
    mask.hidden = !sources[1];
    boxes.setAttribute("viewBox", `0 0 ${told.width_px} ${told.height_px}`);
    const regions = (told.verdict && told.verdict.regions) || [];
    boxes.replaceChildren(...regions.map((region) => {
      const [x, y, width, height] = region.box;
      return svg("rect", { x, y, width, height, class: region.fatal ? "fatal" : "mild", stroke: colors[region.class_name] || "#ffffff", "vector-effect": "non-scaling-stroke" });
    }));
  }

  return { element, show, marks(on) { element.classList.toggle("plain", !on); } };
}

export function legend(regions, colors) {
  const names = [...new Set(regions.filter((region) => region.fatal).map((region) => region.class_name))];
  return names.map((name) => h("span", { class: "key" }, swatch(colors[name]), name));
}

export function swatch(color) {
  return svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, fill: color || "#ffffff" }));
}
