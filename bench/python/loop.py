"""The plain loop that a user would write: video in, persons found and followed, a line of JSON for each frame.

OpenCV decodes and resizes, ONNX Runtime computes YOLOX-nano, numpy decodes its output, supervision's ByteTrack follows.
One thread each. What it does for a frame is vectorised, buffers are used again, and only rows of the output that may be a
person are decoded.
"""

import argparse
import json
import sys
import time

import cv2
import numpy as np
import onnxruntime
import supervision

SIZE = 416
STRIDES = (8, 16, 32)
PERSON = 0
# ByteTrack wants low scores too.
SCORE = 0.1
# Objects of lower scores are not written.
REPORTED_SCORE = 0.35
NMS_IOU = 0.45


class Yolox:
    def __init__(self, path):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        self.picture = np.full((SIZE, SIZE, 3), 114, np.uint8)
        grids, strides = [], []
        for stride in STRIDES:
            cells = SIZE // stride
            x, y = np.meshgrid(np.arange(cells), np.arange(cells))
            grids.append(np.stack((x, y), 2).reshape(-1, 2))
            strides.append(np.full((cells * cells, 1), stride))
        self.grid = np.concatenate(grids).astype(np.float32)
        self.stride = np.concatenate(strides).astype(np.float32)

    def __call__(self, frame):
        """Boxes (xyxy, pixels of the frame) and scores of the persons."""
        height, width = frame.shape[:2]
        scale = min(SIZE / height, SIZE / width)
        new_width, new_height = round(width * scale), round(height * scale)
        cv2.resize(frame, (new_width, new_height), dst=self.picture[:new_height, :new_width])
        blob = cv2.dnn.blobFromImage(self.picture)

        output = self.session.run(None, {self.input: blob})[0][0]
        scores = output[:, 4] * output[:, 5 + PERSON]
        rows = np.flatnonzero(scores > SCORE)
        found, scores, stride = output[rows, :4], scores[rows], self.stride[rows]
        centers = (found[:, :2] + self.grid[rows]) * stride / scale
        sizes = np.exp(found[:, 2:]) * stride / scale
        corners = centers - sizes / 2
        kept = cv2.dnn.NMSBoxes(np.hstack((corners, sizes)), scores, SCORE, NMS_IOU)
        kept = np.asarray(kept, int).reshape(-1)
        return np.hstack((corners, corners + sizes))[kept], scores[kept]


def rounded(box):
    return [round(float(v), 2) for v in box]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("clip")
    parser.add_argument("model")
    parser.add_argument("output")
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()

    cv2.setNumThreads(1)
    video = cv2.VideoCapture(arguments.clip, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not video.isOpened():
        sys.exit(f"cannot open {arguments.clip}")
    fps = video.get(cv2.CAP_PROP_FPS)
    detector = Yolox(arguments.model)
    # The thresholds of the paper, as nv has them; supervision's own default starts tracks on low scores, which costs 0.13 of
    # MOTA on the clip of the comparison.
    tracker = supervision.ByteTrack(track_activation_threshold=0.5, minimum_matching_threshold=0.8, frame_rate=round(fps))
    started = time.process_time()

    seq, frame = 0, None
    with open(arguments.output, "w") as output:
        while arguments.limit is None or seq < arguments.limit:
            ok, frame = video.read(frame)
            if not ok:
                break
            boxes, scores = detector(frame)
            detections = supervision.Detections(
                xyxy=boxes, confidence=scores, class_id=np.full(len(boxes), PERSON)
            )
            tracks = tracker.update_with_detections(detections)
            line = {
                "seq": seq,
                "pts_ms": 1000 * seq / fps,
                "objects": [
                    {"class": "person", "score": round(float(score), 3), "bbox": rounded(box)}
                    for box, score in zip(boxes, scores)
                    if score >= REPORTED_SCORE
                ],
                "tracks": [
                    {"id": int(id), "state": "confirmed", "score": round(float(score), 3), "bbox": rounded(box)}
                    for id, score, box in zip(tracks.tracker_id, tracks.confidence, tracks.xyxy)
                ],
            }
            output.write(json.dumps(line) + "\n")
            seq += 1

    print(json.dumps({"frames": seq, "start_cpu_s": started, "loop_cpu_s": time.process_time() - started}))


if __name__ == "__main__":
    main()
