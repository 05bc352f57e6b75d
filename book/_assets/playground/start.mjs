// Starts the runtime and the model, and opens panels: one, or all of them in tabs.

import { button, element } from "./controls.mjs";
import { openModel } from "./model.mjs";
import * as sampling from "./panel_sample.mjs";
import * as latent from "./panel_latent.mjs";
import * as own from "./panel_own.mjs";
import * as forward from "./panel_forward.mjs";
import { addEncoder, unpackWeights } from "./weights.mjs";

const PANELS = { sample: sampling, latent, own, forward };

/** `files` holds the runtime, the graphs and packed weights, name -> Uint8Array; what
 * the encoder needs comes with `encoder.load()`. */
export async function start(known, files, encoder) {
  files["model.safetensors"] = unpackWeights(files["model.int8"]);
  const model = await openModel(files, known, files, {
    ...encoder,
    async load() {
      const more = await encoder.load();
      addEncoder(files["model.safetensors"], more["encoder.int8"]);
      return more["encoder.onnx"];
    },
  });
  return {
    open(box, panel, settings) {
      box.classList.add("playground-open");
      if (panel === "all") return openAll(files, box, model);
      return openPanel(box, model, PANELS[panel], read(settings), () => {});
    },
  };
}

const read = (settings) => Object.fromEntries(new URLSearchParams(settings));

/** One panel with its live region; resolves when its first picture is drawn. */
function openPanel(box, model, panel, settings, changed) {
  const status = element("p", { role: "status", className: "playground-status" });
  const root = element("div", { className: "playground-panel" });
  box.replaceChildren(root, status);
  return panel.build(root, model, settings, {
    changed,
    say: (text) => (status.textContent = text),
    busy: (yes) => root.setAttribute("aria-busy", String(yes)),
  });
}

/** All panels as tabs; the address holds what is shown, #panel?settings. */
function openAll(runtime, box, model) {
  const tabs = element("div", { role: "tablist", "aria-label": "Playground" });
  const body = element("div", { role: "tabpanel", id: "playground-panel", tabIndex: 0 });
  const link = element("a", { href: "#" }, "Link to these settings");
  const names = Object.keys(PANELS);
  const made = names.map((name) => {
    const tab = button(PANELS[name].title, () => go(name, ""));
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", body.id);
    tab.id = `playground-tab-${name}`;
    return tab;
  });
  tabs.append(...made);
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (made.indexOf(document.activeElement) + step + made.length) % made.length;
    made[next].focus();
    made[next].click();
  });
  box.replaceChildren(tabs, body, element("p", {}, link), ownModel(runtime, reopen));

  function reopen(another) {
    model.close();
    model = another;
    return go(shown, "");
  }

  let shown = names[0];
  function go(name, settings) {
    shown = name;
    names.forEach((one, i) => {
      made[i].setAttribute("aria-selected", String(one === name));
      made[i].tabIndex = one === name ? 0 : -1;
    });
    body.setAttribute("aria-labelledby", `playground-tab-${name}`);
    const changed = (values) => {
      if (shown !== name) return;
      link.href = `#${name}?${new URLSearchParams(values)}`;
      try {
        history.replaceState(null, "", link.href);
      } catch {
        // some browsers keep the address of a file as it is; the link holds it all
      }
    };
    return openPanel(body, model, PANELS[name], read(settings), changed);
  }

  function fromAddress() {
    const [name, settings = ""] = location.hash.slice(1).split("?");
    return PANELS[name] ? go(name, settings) : go(names[0], "");
  }
  addEventListener("hashchange", fromAddress);
  return fromAddress();
}

/** A field for the files that `ldm-tutorial export --format onnx` wrote. */
function ownModel(runtime, reopen) {
  const input = element("input", { type: "file", multiple: true, id: "playground-model" });
  const status = element("p", { role: "status" });
  input.addEventListener("change", async () => {
    try {
      const files = {};
      for (const file of input.files)
        files[file.name] = new Uint8Array(await file.arrayBuffer());
      if (!files["model.json"]) throw new Error("model.json is missing");
      const known = JSON.parse(new TextDecoder().decode(files["model.json"]));
      await reopen(await openModel(runtime, known, files));
      status.textContent = "Your model is open.";
    } catch (error) {
      status.textContent = `These files are no model that runs here: ${error.message}`;
    }
  });
  return element(
    "details",
    {},
    element("summary", {}, "A model of your own"),
    element(
      "p",
      {},
      "Export it with ",
      element("code", {}, "ldm-tutorial export --model DIR --format onnx --out OUT"),
      ", then choose all files of OUT. They stay in this browser."
    ),
    element("label", { htmlFor: input.id }, "Files of the export "),
    input,
    status
  );
}
