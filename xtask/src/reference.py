"""Runs models in onnxruntime and stores what they were given and what they gave.

    python reference.py MODELS PICTURE OUT

MODELS is a folder of ONNX files, PICTURE any picture, OUT a folder that is made. Tensors are raw little-endian float32 in
row-major order, one file each; OUT/cases.json, written last, says which file holds which tensor, and of which shape.
"""

import json
import pathlib
import sys

import numpy
import onnxruntime
from PIL import Image


def rgb(pixels):
    return pixels


def bgr(pixels):
    return pixels[..., ::-1]


# What each model takes: shapes, channel order, what is subtracted and what that is divided by (as their authors have it), and
# whether channels come last.
MODELS = {
    "fastestdet_coco_352": ([(1, 3, 352, 352)], bgr, 0, 255, False),
    "person-reidentification-retail-0248": ([(1, 256, 128, 3)], bgr, 0, 1, True),
    "ultraface_rfb_320": ([(1, 3, 240, 320)], rgb, 127, 128, False),
    "yolox_nano_coco_416": ([(1, 3, 416, 416)], bgr, 0, 1, False),
    # Its batch and both sides are open: an ordinary picture, a batch of narrow ones.
    "yunet_s_dynamic": ([(1, 3, 320, 320), (3, 3, 160, 224)], bgr, 0, 1, False),
}


def pictures(picture, shape, channels_last):
    """The picture at the shape's size, further entries of the batch upside down and mirrored."""
    height, width = shape[1:3] if channels_last else shape[2:4]
    pixels = numpy.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))
    return numpy.stack([pixels, pixels[::-1], pixels[:, ::-1]][: shape[0]])


def noise(random, shape, channels_last):
    count, (height, width) = shape[0], shape[1:3] if channels_last else shape[2:4]
    return random.integers(0, 256, (count, height, width, 3), dtype=numpy.uint8)


def main(models, picture, out):
    out.mkdir(parents=True)
    picture = Image.open(picture).convert("RGB")
    options = onnxruntime.SessionOptions()
    # The graph as the file has it, and the same sums every time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.use_deterministic_compute = True
    options.intra_op_num_threads = 1
    # Of models that list their weights as inputs it warns weight by weight.
    options.log_severity_level = 3
    cases = []

    def store(name, tensor):
        tensor = numpy.ascontiguousarray(tensor, dtype="<f4")
        file = f"{len(cases)}.{name}.f32"
        (out / file).write_bytes(tensor.tobytes())
        return {"file": file, "shape": list(tensor.shape)}

    for model, (shapes, order, mean, deviation, channels_last) in MODELS.items():
        file = models / f"{model}.onnx"
        if not file.exists():
            continue
        session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        for shape in shapes:
            inputs = {
                "picture": pictures(picture, shape, channels_last),
                "noise": noise(numpy.random.Generator(numpy.random.PCG64(17)), shape, channels_last),
            }
            for content, pixels in inputs.items():
                tensor = (order(pixels).astype(numpy.float32) - mean) / numpy.float32(deviation)
                tensor = tensor if channels_last else tensor.transpose(0, 3, 1, 2)
                tensor = numpy.ascontiguousarray(tensor)
                outputs = session.run(names, {session.get_inputs()[0].name: tensor})
                cases.append(
                    {
                        "model": model,
                        "content": content,
                        "input": store("input", tensor),
                        "outputs": [
                            {"name": name, **store(f"output{i}", output)}
                            for i, (name, output) in enumerate(zip(names, outputs))
                        ],
                    }
                )
    text = json.dumps({"onnxruntime": onnxruntime.__version__, "cases": cases}, indent=1)
    (out / "cases.json").write_text(text + "\n")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
