"""The WebSocket of one page: predict its newest frame, drop older ones that wait, answer in order.

The page sends frames (see frames.py) and JSON commands: {"type": "model", "model": "cnn"}, {"type": "pictures",
"on": true}, {"type": "reset"} and {"type": "log"}. It receives JSON: "hello" once; "faces", "dropped" or "error" with
a frame's number for each frame; "model", "pictures", "reset", "logged" or "error" without a number for each command.
After "pictures" the frames are single pictures: small faces are detected too, which takes longer, and no event is
reported.

A frame's path: receive_frame → answer_frames → InferencePool.predict in a worker thread → Session.update → send.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, NoReturn

from aiohttp import WSMsgType, web

from face_mask.errors import UserError
from face_mask.events import Notifier, Watch
from face_mask.live import frames
from face_mask.live.inference import InferencePool
from face_mask.live.rate import RateLimiter
from face_mask.session import Session
from face_mask.tracker import Face

MAX_CONCURRENT = 2  # frames of one page that are predicted at the same time; fewer if several pages are connected
MAX_FRAMES_PER_SECOND = 60
MAX_COMMANDS_PER_SECOND = 10
MAX_COMMAND = 1000  # characters
IDLE_SECONDS = 300.0  # without a message, after which the connection is closed
SEND_SECONDS = 10.0  # after which a page that does not read its answers is disconnected
IDLE = 4000  # close code
Summaries = list[dict[str, str | int | float | None]]


class Connection:
    """A connected page, its session and its selected model."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        pool: InferencePool,
        log: Callable[[Summaries], str] | None,
        notifier: Notifier | None = None,
    ) -> None:
        """`log` logs summaries to MLflow and returns a description of the runs; None if logging is not enabled.

        `notifier` reports faces without a mask; None if no event is to be reported.
        """
        self.socket = socket
        self.pool = pool
        self.log = log
        self.logging = False
        self.notifier = notifier
        self.model = pool.settings.live.model
        self.pictures = False  # whether the frames are single pictures
        self.session = self.new_session()
        self.waiting: tuple[frames.Frame, float] | None = None  # the newest frame and the time it was received
        self.received = asyncio.Event()  # set while a frame is waiting
        self.in_progress: set[asyncio.Future[Any]] = set()  # frames that are predicted
        self.next_frame, self.next_answer = asyncio.Lock(), asyncio.Lock()

    def new_session(self) -> Session:
        self.watch = Watch(self.notifier, "live page") if self.notifier else None
        pool = self.pool
        return Session(pool.settings.live, pool.settings.evaluate.threshold, pool.calibrations, pool.rates)

    async def run(self) -> NoReturn:
        """Serve the page until it disconnects (ConnectionError), or is idle or does not read (TimeoutError).

        Raises an ExceptionGroup of these or, in case of a bug, others.
        """
        threshold = self.pool.settings.evaluate.threshold
        await self.send(
            type="hello",
            models=self.pool.names,
            model=self.model,
            mlflow=self.log is not None,
            unsure={
                name: [min(max(limit, 0.0), 1.0) for limit in calibration.limits(threshold)] if calibration else None
                for name, calibration in self.pool.calibrations.items()
            },
        )
        self.pool.pages += 1
        try:
            async with asyncio.TaskGroup() as self.tasks:  # the first exception cancels the other tasks
                for _ in range(MAX_CONCURRENT):
                    self.tasks.create_task(self.answer_frames())
                await self.receive()
        finally:
            self.pool.pages -= 1

    async def receive(self) -> NoReturn:
        frame_rate, command_rate = RateLimiter(MAX_FRAMES_PER_SECOND), RateLimiter(MAX_COMMANDS_PER_SECOND)
        while True:
            try:
                message = await self.socket.receive(timeout=IDLE_SECONDS)
            except TimeoutError:
                await self.socket.close(code=IDLE, message=b"idle")
                raise
            if message.type == WSMsgType.BINARY:
                await self.receive_frame(message.data, frame_rate.allow(time.monotonic()))
            elif message.type == WSMsgType.TEXT:
                await self.run_command(message.data, command_rate.allow(time.monotonic()))
            else:
                raise ConnectionResetError("the page has disconnected")
            # Other tasks run: a free thread gets this frame before the next message, perhaps here, replaces it.
            await asyncio.sleep(0)

    async def receive_frame(self, message: bytes, allowed: bool) -> None:
        """Let a frame wait for a free thread, in place of an older one that still waits."""
        try:
            if not allowed:
                await asyncio.sleep(1 / MAX_FRAMES_PER_SECOND)  # the messages of this page wait meanwhile
                raise frames.BadFrame(f"too many frames: the maximum is {MAX_FRAMES_PER_SECOND} per second")
            frame = frames.parse(message)
        except frames.BadFrame as error:
            await self.send(type="error", frame=frames.number_of(message), message=str(error))
            return
        older, self.waiting = self.waiting, (frame, time.monotonic())
        self.received.set()
        if older:
            await self.send(type="dropped", frame=older[0].number)

    async def answer_frames(self) -> NoReturn:
        """Predict the newest frame, track its faces and send them, over and over; MAX_CONCURRENT of these run."""
        while True:
            async with self.next_frame:
                await self.received.wait()
                while len(self.in_progress) >= self.pool.threads_per_page():
                    await asyncio.wait(self.in_progress, return_when=asyncio.FIRST_COMPLETED)
                await self.pool.free.acquire()
                assert self.waiting
                (frame, received), self.waiting = self.waiting, None
                self.received.clear()
                model = self.model
                pictures = self.pictures
                prediction = self.pool.submit(frame, model, pictures)
                self.in_progress.add(prediction)
                prediction.add_done_callback(self.in_progress.discard)
            async with self.next_answer:  # locks are fair: answers have the order in which the frames were submitted
                try:
                    predictions, width, height = await prediction
                except (frames.BadFrame, UserError) as error:
                    await self.send(type="error", frame=frame.number, message=str(error))
                    continue
                session = self.session  # the current one: after "reset" the page expects the new session's metrics
                faces = session.update(predictions, frame.time, model)
                if self.watch and not pictures:
                    self.watch.update(faces, time.monotonic())
                latency_ms = (time.monotonic() - received) * 1000
                session.add_latency(latency_ms, model)
                await self.send(
                    type="faces",
                    frame=frame.number,
                    model=model,
                    width=width,
                    height=height,
                    latency_ms=round(latency_ms, 2),
                    faces=[to_json(face) for face in faces],
                    metrics=session.summary(model),
                )

    async def run_command(self, text: str, allowed: bool) -> None:
        try:
            command = json.loads(text) if allowed and len(text) <= MAX_COMMAND else {}
            kind = command.get("type")
        except (ValueError, AttributeError, RecursionError):
            command, kind = {}, None
        if not allowed:
            await asyncio.sleep(1 / MAX_COMMANDS_PER_SECOND)  # the messages of this page wait meanwhile
            await self.send(
                type="error", message=f"too many commands: the maximum is {MAX_COMMANDS_PER_SECOND} per second"
            )
        elif kind == "model" and command.get("model") in self.pool.names:
            self.model = command["model"]
            await self.send(type="model", model=self.model)
        elif kind == "pictures" and isinstance(command.get("on"), bool):
            self.pictures = command["on"]
            await self.send(type="pictures", on=self.pictures)
        elif kind == "reset":
            self.session = self.new_session()
            await self.send(type="reset")
        elif kind == "log":
            self.tasks.create_task(self.log_session())
        else:
            await self.send(type="error", message="unknown command")

    async def log_session(self) -> None:
        """Log the session to MLflow, which takes seconds; frames are answered meanwhile."""
        summaries = self.session.summaries()
        try:
            if not self.log:
                raise UserError("start the server with --log-to-mlflow")
            if self.logging:
                raise UserError("the previous request is still in progress")
            if not summaries:
                raise UserError("no frame has been processed yet")
            self.logging = True
            try:
                await self.send(type="logged", message=await asyncio.to_thread(self.log, summaries))
            finally:
                self.logging = False
        except UserError as error:
            await self.send(type="error", message=f"cannot log to MLflow: {error}")

    async def send(self, **message: Any) -> None:
        """Send JSON. Raises ConnectionError if the page has disconnected, TimeoutError if it does not read."""
        await asyncio.wait_for(self.socket.send_str(json.dumps(message, allow_nan=False)), SEND_SECONDS)


def to_json(face: Face) -> dict[str, Any]:
    """A face as the page receives it; the box in pixels of the frame."""
    return {
        "number": face.number,
        "box": [round(edge, 1) for edge in face.box],
        "probability": round(face.probability, 4),
        "smoothed": round(face.smoothed, 4),
        "label": face.label,
        "detected": face.detected,
    }
