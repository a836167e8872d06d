// The image of a frame with class map and boxes on top.

import { h, svg } from "./dom.js";

// `colors`: class name to colour. Returns the element and `show(seq, verdict, size)`.
export function overlay(label) {
  const image = h("img", { alt: label, class: "frame-picture", hidden: true });
  const mask = h("img", { alt: "", class: "frame-mask", hidden: true });
  const boxes = svg("svg", { class: "frame-boxes", preserveAspectRatio: "none", "aria-hidden": "true" });
  const none = h("p", { class: "frame-none", text: "No image" });
  const element = h("div", { class: "frame" }, image, mask, boxes, none);
  let newest = 0;

  async function show(frame, colors) {
    const request = ++newest;
    const load = async (path) => { const loaded = new Image(); loaded.src = path; await loaded.decode(); return loaded.src; };
    let sources;
    try {
      sources = await Promise.all([
        load(`picture/${frame.seq}.jpg`),
        frame.mask ? load(`mask/${frame.seq}.png`).catch(() => "") : "",
      ]);
    } catch {
      return; // overwritten meanwhile: the previous one stays
    }
    if (request !== newest) return;
    image.src = sources[0];
    image.hidden = false;
    none.hidden = true;
    element.style.setProperty("aspect-ratio", `${frame.width_px} / ${frame.height_px}`);
    element.style.setProperty("--ratio", frame.width_px / frame.height_px);
    if (sources[1]) mask.src = sources[1];
    mask.hidden = !sources[1];
    boxes.setAttribute("viewBox", `0 0 ${frame.width_px} ${frame.height_px}`);
    const regions = (frame.verdict && frame.verdict.regions) || [];
    boxes.replaceChildren(...regions.map((region) => {
      const [x, y, width, height] = region.box;
      return svg("rect", { x, y, width, height, class: region.fatal ? "fatal" : "mild", stroke: colors[region.class_name] || "#ffffff", "vector-effect": "non-scaling-stroke" });
    }));
  }

  return { element, show, marks(on) { element.classList.toggle("plain", !on); } };
}

export function legend(verdict, colors) {
  const names = [...new Set([...verdict.regions.filter((region) => region.fatal).map((region) => region.class_name), ...(verdict.kind ? [verdict.kind] : [])])];
  return names.map((name) => h("span", { class: "key" }, swatch(colors[name]), name));
}

export function swatch(color) {
  return svg("svg", { class: "swatch", viewBox: "0 0 10 10", "aria-hidden": "true" }, svg("rect", { width: 10, height: 10, rx: 2, fill: color || "#ffffff" }));
}
