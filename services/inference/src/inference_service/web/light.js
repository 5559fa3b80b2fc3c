/** The light of a scene: a cone from the picture to the pinhole, and from there a beam to each name. */

const SVG = "http://www.w3.org/2000/svg";

/** Pixels. */
const HAIRLINE = 0.6;
const GAP = 14; // between a beam and what it points at
const HOLE_RADIUS = 5;
const GLOW_RADIUS = 44;
const NARROW_CONE_HEIGHT = 56; // one above the other, the cone starts below what follows the picture

export class Light {
  #scene;
  #svg;
  #targets;
  #beams = create("g", { class: "light-beams" }); // one element for good: redrawing restarts no animation
  #rest = create("g", {});

  /** `targets` returns `{element, weight}` for each beam; a weight in [0, 1] is its width. */
  constructor(scene, targets) {
    this.#scene = scene;
    this.#svg = scene.querySelector(".light");
    this.#targets = targets;
    this.#svg.append(this.#beams, this.#rest);
    const observer = new ResizeObserver(() => this.draw());
    for (const part of [scene, ...scene.querySelectorAll(".plate, .panel")]) observer.observe(part);
  }

  draw() {
    const origin = this.#scene.getBoundingClientRect();
    if (origin.width === 0) return;
    const [plate, inside, panel] = [".plate", ".inside", ".panel"].map((part) =>
      boxIn(origin, this.#scene.querySelector(part)),
    );
    const isBeside = inside.top < plate.bottom;
    const hole = isBeside ? { x: inside.left, y: plate.middle } : { x: plate.center, y: inside.top };
    const beams = isBeside ? this.#beamsAcross(origin, panel) : this.#beamsDown(inside, panel);
    const reach = Math.max(...beams.flat().map((point) => Math.hypot(point.x - hole.x, point.y - hole.y)));
    const edge = hole.y - NARROW_CONE_HEIGHT;
    const mouth = isBeside
      ? [{ x: plate.right, y: plate.top }, { x: plate.right, y: plate.bottom }]
      : [{ x: plate.left, y: edge }, { x: plate.right, y: edge }];
    this.#beams.replaceChildren(...beams.map((end) => this.#wedge("beam", hole, end)));
    this.#rest.replaceChildren(
      this.#fade("cone", hole, Math.hypot(mouth[0].x - hole.x, mouth[0].y - hole.y)),
      this.#fade("beam", hole, reach),
      this.#fade("glow", hole, GLOW_RADIUS),
      this.#wedge("cone", hole, mouth),
      this.#circle("glow", hole, GLOW_RADIUS),
      this.#circle("hole", hole, HOLE_RADIUS),
    );
  }

  /** Each beam ends at its target's left edge, as high as its share of the target. */
  #beamsAcross(origin, panel) {
    const ends = this.#targets().map(({ element, weight }) => {
      const box = boxIn(origin, element);
      const half = HAIRLINE + (weight * box.height) / 2;
      const x = box.left - GAP;
      return [{ x, y: box.middle - half }, { x, y: box.middle + half }];
    });
    const x = panel.left - GAP;
    return ends.length ? ends : [[{ x, y: panel.top }, { x, y: panel.bottom }]];
  }

  /** On a narrow screen the beams fan out over the width above the names. */
  #beamsDown(inside, panel) {
    const targets = this.#targets();
    const y = inside.top + (panel.top - inside.top) * 0.75;
    const share = panel.width / targets.length;
    const ends = targets.map(({ weight }, index) => {
      const half = HAIRLINE + (weight * share) / 2;
      const x = panel.left + share * (index + 0.5);
      return [{ x: x - half, y }, { x: x + half, y }];
    });
    return ends.length ? ends : [[{ x: panel.left, y }, { x: panel.right, y }]];
  }

  #wedge(kind, hole, [from, to]) {
    return create("path", {
      class: `light-${kind}`,
      d: `M${hole.x} ${hole.y}L${from.x} ${from.y}L${to.x} ${to.y}Z`,
      fill: `url(#${this.#scene.id}-${kind})`,
    });
  }

  #circle(kind, hole, radius) {
    const fill = kind === "glow" ? { fill: `url(#${this.#scene.id}-glow)` } : {};
    return create("circle", { class: `light-${kind}`, cx: hole.x, cy: hole.y, r: radius, ...fill });
  }

  /** Light fades with its distance from the hole; the stylesheet says how. */
  #fade(kind, hole, radius) {
    const gradient = create("radialGradient", {
      id: `${this.#scene.id}-${kind}`,
      gradientUnits: "userSpaceOnUse",
      cx: hole.x,
      cy: hole.y,
      r: Math.max(1, radius),
    });
    gradient.append(
      create("stop", { class: `light-${kind}-near`, offset: 0 }),
      create("stop", { class: `light-${kind}-far`, offset: 1 }),
    );
    return gradient;
  }
}

function create(name, attributes) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** The box of `element` in the coordinates of the scene whose box is `origin`. */
function boxIn(origin, element) {
  const { left, top, width, height } = element.getBoundingClientRect();
  const x = left - origin.left;
  const y = top - origin.top;
  return {
    left: x, right: x + width, center: x + width / 2, width,
    top: y, bottom: y + height, middle: y + height / 2, height,
  };
}
