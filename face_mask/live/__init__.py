"""The live page: faces in a browser's camera or video, detected, tracked and classified by a server on this machine.

    face-mask live [--host 127.0.0.1] [--port 8000] [--model mobilenet] [--log-to-mlflow]     or: make live

The page sends one JPEG frame at a time over a WebSocket (format: face_mask/live/frames.py) and draws the answer.
Frames are processed in memory and discarded: nothing is written to disk, and nothing is sent anywhere else.
"""
