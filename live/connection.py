"""One page's WebSocket: the newest frame is judged, older ones that wait are dropped, answers come in order.

The page sends frames (live/frames.py) and commands, JSON such as {"type": "model", "model": "cnn"}, {"type": "log"} and
{"type": "restart"}. It gets JSON: "hello" once, then for each frame "faces", "dropped" or "error" with its number, and
"model", "logged" or "error" without one for commands.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, web

from live import frames
from live.judges import Answer, Judges
from live.rate import Rate
from pipeline.errors import UserError
from pipeline.serve.following import Face
from pipeline.serve.session import Session

JUDGED_AT_ONCE = 2  # frames of one page
MAX_FRAMES_PER_SECOND = 60
MAX_COMMANDS_PER_SECOND = 10
IDLE_SECONDS = 300.0  # without a frame or a command, after which the connection is closed
SEND_SECONDS = 10.0  # for which a page may not read its answers before it is given up
IDLE = 4000  # close code
Summaries = list[dict[str, str | int | float | None]]


class Connection:
    """A page that is connected, its session and its model."""

    def __init__(self, socket: web.WebSocketResponse, judges: Judges, log: Callable[[Summaries], str] | None) -> None:
        """`log` sends a session's summaries to MLflow and says where to; None where that is not on offer."""
        self.socket = socket
        self.judges = judges
        self.log = log
        self.model = judges.params.live.model
        self.session = self.new_session()
        self.waiting: tuple[frames.Frame, float] | None = None  # the newest frame and when it came
        self.arrived = asyncio.Event()
        self.places = asyncio.Semaphore(JUDGED_AT_ONCE)
        self.tasks: set[asyncio.Task] = set()
        self.logging = False

    def new_session(self) -> Session:
        return Session(self.judges.params.live, self.judges.params.evaluate.threshold)

    async def run(self) -> None:
        """Serve the page until it leaves, or is silent for too long."""
        live = self.judges.params.live
        await self.send(
            type="hello",
            models=self.judges.names,
            model=self.model,
            mlflow=self.log is not None,
            unsure=[live.unsure_low, live.unsure_high],
        )
        self.start(self.judge_newest())
        try:
            await self.receive()
        finally:
            for task in list(self.tasks):
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def start(self, work: Any) -> asyncio.Task:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.ended)
        return task

    def ended(self, task: asyncio.Task) -> None:
        """A task that failed ends the connection: the page connects again, and the bug is in the log."""
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            if not isinstance(error, ConnectionError | TimeoutError | asyncio.TimeoutError):
                asyncio.get_running_loop().call_exception_handler({"message": "live connection", "exception": error})
            closing = asyncio.create_task(self.socket.close(code=WSCloseCode.INTERNAL_ERROR))
            self.tasks.add(closing)
            closing.add_done_callback(self.tasks.discard)

    async def receive(self) -> None:
        of_frames, of_commands = Rate(MAX_FRAMES_PER_SECOND), Rate(MAX_COMMANDS_PER_SECOND)
        while True:
            try:
                message = await self.socket.receive(timeout=IDLE_SECONDS)
            except (TimeoutError, asyncio.TimeoutError):
                await self.socket.close(code=IDLE, message=b"idle")
                return
            now = time.monotonic()
            if message.type == WSMsgType.BINARY:
                await self.take(message.data, now, of_frames.allows(now))
            elif message.type == WSMsgType.TEXT:
                if of_commands.allows(now):
                    await self.obey(message.data)
                else:
                    await self.send(type="error", message="too many commands: slow down")
            else:  # closed, or broken
                return

    async def take(self, message: bytes, now: float, allowed: bool) -> None:
        """A frame came: it takes the place of the one that waits, if any."""
        try:
            frame = frames.parse(message)
            if not allowed:
                raise frames.BadFrame(f"too many frames: {MAX_FRAMES_PER_SECOND} a second are the most", frame.number)
        except frames.BadFrame as error:
            await self.send(type="error", frame=error.number, message=str(error))
            return
        older, self.waiting = self.waiting, (frame, now)
        self.arrived.set()
        if older:
            await self.send(type="dropped", frame=older[0].number)
        await asyncio.sleep(0)  # a free thread takes this frame before the next one, which may be here, replaces it

    async def judge_newest(self) -> None:
        """Start judging the newest frame whenever there is one, a place for it, and a free thread."""
        before: asyncio.Task | None = None
        while True:
            await self.places.acquire()
            await self.arrived.wait()
            await self.judges.free.acquire()
            assert self.waiting
            (frame, came), self.waiting = self.waiting, None
            self.arrived.clear()
            judging = self.judges.judge_soon(frame, self.model)
            before = self.start(self.answer(frame, came, judging, self.model, before))

    async def answer(
        self,
        frame: frames.Frame,
        came: float,
        judging: asyncio.Future[Answer],
        model: str,
        before: asyncio.Task | None,
    ) -> None:
        """Answer a frame once it is judged and the one `before` it is answered."""
        problem, found = None, None
        try:
            found = await asyncio.shield(judging)
        except frames.BadFrame as error:
            problem = str(error)
        if before:
            await asyncio.wait([before])
        if found is None:
            await self.send(type="error", frame=frame.number, message=problem)
        else:
            session = self.session  # not an older one: the page takes what follows "restarted" for the new one's
            faces = session.follow(found.judged, frame.time, model)
            milliseconds = (time.monotonic() - came) * 1000
            session.answered(milliseconds, model)
            await self.send(
                type="faces",
                frame=frame.number,
                model=model,
                width=found.width,
                height=found.height,
                milliseconds=round(milliseconds, 2),
                faces=[shown(face) for face in faces],
                figures=session.summary(model),
            )
        self.places.release()

    async def obey(self, text: str) -> None:
        """A command came."""
        try:
            command = json.loads(text)
            kind = command.get("type")
        except (ValueError, AttributeError, RecursionError):
            command, kind = {}, None
        if kind == "model" and command.get("model") in self.judges.names:
            self.model = command["model"]
            await self.send(type="model", model=self.model)
        elif kind == "restart":
            self.session = self.new_session()
            await self.send(type="restarted")
        elif kind == "log" and self.log and not self.logging:
            self.start(self.log_session())
        elif kind == "log":
            why = "the last one is still under way" if self.logging else "start the server with --log-to-mlflow"
            await self.send(type="error", message=f"not logged: {why}")
        else:
            await self.send(type="error", message="no such command")

    async def log_session(self) -> None:
        assert self.log
        summaries = self.session.summaries()
        if not summaries:
            await self.send(type="error", message="not logged: no frame was judged yet")
            return
        self.logging = True
        try:
            where = await asyncio.to_thread(self.log, summaries)
            await self.send(type="logged", message=where)
        except UserError as error:
            await self.send(type="error", message=f"not logged: {error}")
        finally:
            self.logging = False

    async def send(self, **message: Any) -> None:
        """Send JSON; a page that does not read gets no more, and ConnectionError or TimeoutError is raised."""
        await asyncio.wait_for(self.socket.send_str(json.dumps(message, allow_nan=False)), SEND_SECONDS)


def shown(face: Face) -> dict[str, Any]:
    """A face as the page takes it; the box in pixels of the frame."""
    return {
        "number": face.number,
        "box": [round(edge, 1) for edge in face.box],
        "probability": round(face.probability, 4),
        "smoothed": round(face.smoothed, 4),
        "label": face.label,
        "found": face.found,
    }
