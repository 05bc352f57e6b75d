"""The playground: the shipped model, packed so that a page can run it.

A page that holds <div class="playground"> gets a small script, `load.js`, and a style
sheet. Everything else is loaded after a click, and every page shares it. It is packed
here, into _static/playground: the modules and `model.json` as texts, the runtime, the
graphs and the weights as gzip, seven bits a letter. That form works from a disk, where
a page may load scripts but may neither fetch files nor import modules. The weights,
most of what is loaded, are packed as whole numbers of 8 bits, a factor for each row
beside them: pictures then differ from the library's by less than one of 255 levels in
the mean, and the page computes in float32 all the same. The encoder comes only when a
picture of the reader's own is to be encoded.
"""

import gzip
import json
import re
import shutil
import struct
import tempfile
from copy import deepcopy
from pathlib import Path

BOOK = Path(__file__).resolve().parent.parent
MODULES = BOOK / "_assets" / "playground"
GRAPHS = BOOK / "_playground"
RUNTIME = GRAPHS / "runtime"
MODEL = "ldm-f8-sharp"
ENCODER = "codec.vae.encoder."  # the tensors that are not loaded at once
LATER = ("encoder.onnx", "encoder.int8")
PART = 784 * 1024  # bytes in a script; a multiple of 7, so that eight letters are full
FORBIDDEN = b'\0\n\r"\\'  # what a text in a script cannot hold; here 128 is added
PLACE = re.compile(r'<div[^>]*\bclass="playground"')


def packed_files():
    """What is loaded as bytes, by the name that the modules know."""
    runtime = (path for path in RUNTIME.iterdir() if path.name.startswith("ort"))
    paths = [*sorted(runtime), *sorted(GRAPHS.glob("*.onnx"))]
    files = {path.name: path.read_bytes() for path in paths}
    first, encoder = packed_weights(model())
    return files | {"model.int8": first, "encoder.int8": encoder}


def model():
    from ldm_tutorial import LatentDiffusion

    return LatentDiffusion.load(MODEL)


def is_large(tensor):
    """Whether a tensor is packed; `weights.mjs` has the same rule."""
    return tensor.ndim > 1 and tensor.numel() >= 2048


def rows_and_factors(tensor):
    """Whole numbers from -127 to 127 and a factor for each row: their product is about
    the tensor, as (rows, columns)."""
    rows = tensor.flatten(1).float()
    factors = (rows.abs().amax(1, keepdim=True) / 127).half().float().clamp(min=2**-24)
    return (rows / factors).round().clamp(-127, 127) + 0.0, factors  # no minus zero


def weights(model):
    """The safetensors file that the page makes of the packed weights, laid out as
    `ldm-tutorial export --fp16` does: that is where the graphs look for them."""
    import torch

    rounded = {}
    for name, tensor in model.state_dict().items():
        if is_large(tensor):
            whole, factors = rows_and_factors(tensor)
            tensor = (whole * factors).view_as(tensor)
        rounded[name] = tensor
    model = deepcopy(model)
    model.load_state_dict(rounded)
    with tempfile.TemporaryDirectory() as folder:
        model.save(folder, torch.float16)
        return (Path(folder) / "model.safetensors").read_bytes()


def packed_weights(model):
    """That file with its large tensors packed, as `weights.mjs` reads it: all but the
    encoder, and the encoder's tensors."""
    import torch

    content, tensors = weights(model), model.state_dict()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    parts, encoder = [content[:start]], []
    for name in sorted(header, key=lambda name: header[name]["data_offsets"]):
        first, end = header[name]["data_offsets"]
        part = content[start + first : start + end]
        if is_large(tensors[name]):
            whole, factors = rows_and_factors(tensors[name])
            part = factors.numpy().tobytes() + whole.to(torch.int8).numpy().tobytes()
        (encoder if name.startswith(ENCODER) else parts).append(part)
    return b"".join(parts), b"".join(encoder)


def modules():
    """The modules' texts, each after those that it imports."""
    texts = {path.name: path.read_text("utf8") for path in MODULES.glob("*.mjs")}
    ordered = {}

    def add(name):
        for other in re.findall(r'from "\./([\w.]+)"', texts[name]):
            if other not in ordered:
                add(other)
        ordered[name] = texts[name]

    for name in sorted(texts):
        add(name)
    return ordered


def known():
    """What model.json says, less the schedule's values, which the page works out."""
    text = (GRAPHS / "model.json").read_text("utf8")
    return {k: v for k, v in json.loads(text).items() if k != "alpha_bar"}


def letters(content):
    """Bytes as a text that a script may hold between quotes, seven bits a letter."""
    import numpy as np

    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    bits = np.append(bits, np.zeros(-len(bits) % 7, np.uint8)).reshape(-1, 7)
    values = np.packbits(bits, axis=1)[:, 0] >> 1
    values[np.isin(values, list(FORBIDDEN))] += 128
    return values.tobytes().decode("latin1")


def call(name, value):
    """A script that hands a value to `load.js`."""
    return f"ldmPlayground({json.dumps(name)}, {value});\n"


def scripts():
    """Name -> text of every script that is made here."""
    made, counts = {}, {}
    for name, content in packed_files().items():
        zipped = gzip.compress(content, 9, mtime=0)
        parts = [zipped[i : i + PART] for i in range(0, len(zipped), PART)]
        counts[name] = len(parts)
        for i, part in enumerate(parts):
            made[f"{name}-{i:02}.js"] = call(f"{name}-{i:02}", f'"{letters(part)}"')
    later = {name: counts.pop(name) for name in LATER}
    size = sum(len(text.encode()) for name, text in made.items() if is_late(name))
    listed = {"modules": modules(), "packed": counts, "known": known()}
    listed |= {"later": later, "megabytes": round(size / 1e6, 1)}
    return made | {"files.js": call("files", json.dumps(listed))}


def is_late(name):
    """Whether a script is loaded only when a picture is to be encoded."""
    return name.startswith(LATER)


def megabytes(made):
    """What a click loads of these scripts, in millions of bytes."""
    first = (text for name, text in made.items() if not is_late(name))
    return round(sum(len(text.encode()) for text in first) / 1e6)


def write(app):
    """Write the scripts where Sphinx will not look; they change with what they hold."""
    folder = Path(app.outdir) / "_static" / "playground"
    folder.mkdir(parents=True, exist_ok=True)
    made = scripts()
    for path in folder.glob("*-[0-9][0-9].js"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf8")
    for path in MODULES.iterdir():  # Sphinx copies them only if a page has changed
        shutil.copy(path, folder)
    app.playground_megabytes = megabytes(made)


def finish(app, exception):
    """Tell the loader how much there is, once Sphinx has copied it for good."""
    path = Path(app.outdir) / "_static" / "playground" / "load.js"
    loader = (MODULES / "load.js").read_text("utf8")
    loader = loader.replace('"MEGABYTES"', str(app.playground_megabytes))
    path.write_text(loader, encoding="utf8")


def attach(app, pagename, templatename, context, doctree):
    """Give a page that has a place for it the script that opens the playground."""
    if PLACE.search(context.get("body", "")):
        app.add_css_file("playground/playground.css")
        app.add_js_file("playground/load.js", defer="defer")


def setup(app):
    app.connect("builder-inited", write)
    app.connect("html-page-context", attach)
    app.connect("build-finished", finish)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
