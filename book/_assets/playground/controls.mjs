// Labelled controls from a list, and small helpers that the panels share.

let ids = 0;

/** An element with properties, attributes (where it has no such property), children. */
export function element(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given))
    if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/**
 * Draws `fields` into `root`: { name, label, kind, value, ... } with kind "range" or
 * "number" (min, max, step), "choice" (options: [value, text] pairs) or "colour".
 * `given` holds earlier values as texts, such as those of a link; `onChange(name)` is
 * called after every change. Returns the values, by name, `set(name, value)` and
 * `inputOf(name)`.
 */
export function controls(root, fields, given, onChange) {
  const values = {};
  const inputs = {};
  const box = element("div", { className: "playground-controls" });
  for (const field of fields) {
    const input = makers[field.kind](field);
    input.id = `playground-${++ids}`;
    const shown = element("output", { htmlFor: input.id });
    const read = () => {
      const number = field.kind === "range" || field.kind === "number";
      values[field.name] = number ? Number(input.value) : input.value;
      if (field.kind !== "range") return;
      shown.textContent = input.value;
    };
    if (given[field.name] !== undefined) {
      const wanted = given[field.name];
      const known = field.kind !== "choice" || field.options.some(([v]) => `${v}` === wanted);
      if (known) input.value = wanted;
    }
    read();
    input.addEventListener("input", () => {
      if (!input.checkValidity() || input.value === "") return;
      read();
      onChange(field.name);
    });
    inputs[field.name] = { input, read };
    const label = element("label", { htmlFor: input.id }, field.label);
    if (field.kind === "range") label.append(" ", shown);
    box.append(element("div", {}, label, input));
  }
  root.append(box);
  const set = (name, value) => {
    inputs[name].input.value = value;
    inputs[name].read();
  };
  return { values, set, inputOf: (name) => inputs[name].input };
}

const bounded = (type) => ({ min = 0, max, step = 1, value }) =>
  element("input", { type, min, max, step, value });

const makers = {
  range: bounded("range"),
  number: bounded("number"),
  colour: ({ value }) => element("input", { type: "color", value }),
  choice({ options, value }) {
    const made = element("select");
    for (const [option, text] of options) made.append(element("option", { value: option }, text));
    made.value = value;
    return made;
  },
};

export function button(text, onClick) {
  const made = element("button", { type: "button", textContent: text });
  made.addEventListener("click", onClick);
  return made;
}

/** Fields for a class, if the model knows any, and for a seed. */
export function origin(model, given = {}) {
  const { suffix = "", of = "", y = 0, seed = 0 } = given;
  const seeds = { name: `seed${suffix}`, label: `Seed${of}`, kind: "number", max: 2 ** 32 - 1 };
  const fields = [{ ...seeds, value: seed }];
  if (model.classes.length)
    fields.unshift({
      name: `class${suffix}`,
      label: `Class${of}`,
      kind: "choice",
      options: model.classes.map((name, i) => [i, name]),
      value: y % model.classes.length,
    });
  return fields;
}

/** The number of the class that is chosen, or null. */
export const classOf = (model, value) => (model.classes.length ? Number(value) : null);

/** Lets the browser draw. */
const breathe = () => new Promise((resolve) => setTimeout(resolve));

/** `work(stale, ...)` made so that only the last call goes on: stale() tells the others
 * to stop. `ui` hears of what goes wrong, and when all is drawn. */
export function latest(work, ui) {
  let calls = 0;
  return async (...given) => {
    const mine = ++calls;
    const stale = () => mine !== calls;
    ui.busy(true);
    await breathe();
    try {
      if (!stale()) await work(stale, ...given);
    } catch (error) {
      ui.say(`It went wrong: ${error.message}`);
    }
    if (!stale()) ui.busy(false);
  };
}

export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Figures side by side, on a phone too: as many columns, each at most `shown` CSS pixels. */
export function columns(shown, figures) {
  const made = element("div", { className: "playground-columns" }, ...figures);
  made.style.gridTemplateColumns = `repeat(${figures.length}, minmax(0, ${shown}px))`;
  return made;
}

/** A picture, `shown` CSS pixels wide where there is room, with words below it. */
export function figure(picture, caption, shown) {
  const words = typeof caption === "string" ? element("figcaption", {}, caption) : caption;
  const made = element("figure", {}, picture, words);
  made.style.width = `${shown}px`;
  return made;
}
