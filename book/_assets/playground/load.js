// Opens the playground when it is asked for, and not before.
//
// A page says <div class="playground" data-panel="sample" data-settings="seed=3">, with
// a picture inside for readers without JavaScript. This script puts a button below it.
// A click loads the files that the build has packed (book/_ext/playground.py). Pages
// opened from a disk may neither fetch files nor import modules, but they may load
// scripts; so everything comes as a script, here and over http alike:
//
//     files.js          the texts of the modules (*.mjs) and of model.json, and the list
//     NAME-00.js ...    bytes: gzip, seven bits a letter, a megabyte each

(() => {
  const here = document.currentScript;
  const base = here.src.replace(/[^/]*$/, "");
  const megabytes = "MEGABYTES"; // the build writes here how many a click loads
  const received = {};
  window.ldmPlayground = (name, value) => (received[name] = value);

  const script = (name) =>
    new Promise((resolve, reject) => {
      const one = document.createElement("script");
      one.src = base + name;
      one.onload = resolve;
      one.onerror = () => reject(new Error(`${name} could not be loaded`));
      document.head.append(one);
    });

  function bytesOf(text) {
    const made = new Uint8Array((text.length * 7) >> 3);
    let [held, bits, place] = [0, 0, 0];
    for (let i = 0; i < text.length; i++) {
      held = (held << 7) | (text.charCodeAt(i) & 127);
      bits += 7;
      if (bits < 8) continue;
      bits -= 8;
      made[place++] = held >> bits; // its last eight bits
    }
    return made;
  }

  async function unpack(parts) {
    const packed = new Blob(parts.map(bytesOf));
    const stream = packed.stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  // Modules that import each other, from texts: each address stands in for a name.
  function addresses(modules) {
    const made = {};
    for (const [name, text] of Object.entries(modules)) {
      // a module comes after those it imports
      const linked = text.replace(/from "\.\/([\w.]+)"/g, (_, other) => `from "${made[other]}"`);
      made[name] = URL.createObjectURL(new Blob([linked], { type: "text/javascript" }));
    }
    return made;
  }

  /** Bytes by name; `packed` says of how many scripts each is made. */
  async function bytes(packed, step) {
    const unpacked = {};
    await Promise.all(
      Object.entries(packed).map(async ([name, count]) => {
        const parts = Array.from({ length: count }, (_, i) => `${name}-${`0${i}`.slice(-2)}`);
        await Promise.all(parts.map((part) => script(`${part}.js`).then(step)));
        unpacked[name] = await unpack(parts.map((part) => received[part]));
        for (const part of parts) delete received[part];
      })
    );
    return unpacked;
  }

  async function load(onProgress) {
    if (!window.DecompressionStream || !window.WebAssembly)
      throw new Error("this browser is too old for it: it lacks DecompressionStream");
    await script("files.js");
    const { modules, packed, known, later, megabytes: more } = received.files;
    let [done, all] = [0, Object.values(packed).reduce((sum, n) => sum + n, 1)];
    const step = () => onProgress(++done / all);
    const unpacked = await bytes(packed, step);
    const { start } = await import(addresses(modules)["start.mjs"]);
    const encoder = { load: () => bytes(later), megabytes: more };
    const opened = await start(known, unpacked, encoder);
    step();
    return opened;
  }

  let loading = null; // one model for all panels of a page
  const bars = new Set(); // of the panels that wait for it
  const unopened = new Set(); // buttons that say what a click will load
  const show = (share) => bars.forEach((bar) => (bar.value = share));

  function prepare(box) {
    const bar = document.createElement("div");
    bar.className = "playground-bar";
    const button = document.createElement("button");
    const words = box.dataset.button || "Run the model here";
    button.type = "button";
    button.textContent = `${words} (loads ${megabytes} MB)`;
    const status = document.createElement("p");
    status.setAttribute("role", "status");
    bar.append(button, status);
    box.append(bar);
    const ready = () => (button.textContent = words);
    unopened.add(ready);
    button.addEventListener("click", async () => {
      button.disabled = true;
      const progress = document.createElement("progress");
      progress.setAttribute("aria-label", "Loading the model");
      bar.append(progress);
      bars.add(progress);
      status.textContent = "Loading …";
      try {
        loading ||= load(show);
        const { open } = await loading;
        unopened.forEach((one) => one());
        box.replaceChildren();
        await open(box, box.dataset.panel, box.dataset.settings || "");
      } catch (error) {
        loading = null;
        button.disabled = false;
        progress.remove();
        status.textContent = `The model cannot run here: ${error.message}`;
      }
      bars.delete(progress);
    });
  }

  document.querySelectorAll(".playground").forEach(prepare);
})();
