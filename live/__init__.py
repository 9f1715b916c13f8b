"""The live page: a browser's camera or film, its faces judged by a server on this machine.

    make live        or        python -m live [--host 127.0.0.1] [--port 8000] [--model mobilenet] [--log-to-mlflow]

The page sends one JPEG frame at a time over a WebSocket and draws what is answered; live/frames.py holds the format.
Frames are judged in memory and forgotten: nothing is written to disk, and nothing is sent anywhere else.
"""
