"""Routes that answer no conversation: embeddings, images, audio, reranking, moderation."""

import io
import wave
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import UploadFile

from stack.provider import tokens
from stack.provider.answer import Answer, finish, prepare
from stack.provider.calls import now

router = APIRouter()

DIMENSIONS = 8
IMAGE_TOKENS = 272
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@router.post("/embeddings")
async def embeddings(request: Request) -> dict[str, Any]:
    """Turn texts into vectors, the same text always into the same."""
    body = await request.json()
    given = body.get("input")
    texts = given if isinstance(given, list) and given and isinstance(given[0], str | list) else [given]
    counts = [len(text) if isinstance(text, list) else tokens.count_any(text) for text in texts]
    answer = await _prepare(request, body, given, sum(counts))
    data = [{"object": "embedding", "index": i, "embedding": _vector(text)} for i, text in enumerate(texts)]
    usage = {"prompt_tokens": answer.call.prompt_tokens, "total_tokens": answer.call.total_tokens}
    return {"object": "list", "model": body.get("model"), "data": data, **_usage(answer, usage)}


@router.post("/images/generations")
async def image_generations(request: Request) -> dict[str, Any]:
    """Draw: a single pixel."""
    body = await request.json()
    return await _images(request, body, tokens.count_any(body.get("prompt")))


@router.post("/images/edits")
async def image_edits(request: Request) -> dict[str, Any]:
    """Draw over images."""
    body, files = await _form(request)
    return await _images(request, body, tokens.count_any(body.get("prompt")) + tokens.PER_IMAGE * len(files))


@router.post("/audio/speech")
async def speech(request: Request) -> Response:
    """Speak: one second of silence. Providers report no usage here."""
    body = await request.json()
    await _prepare(request, body, body.get("input"), tokens.count_any(body.get("input")), reported=False)
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(16_000))
    return Response(sound.getvalue(), media_type="audio/wav")


@router.post("/audio/transcriptions")
async def transcriptions(request: Request) -> Response:
    """Listen: always the same sentence."""
    body, files = await _form(request)
    prompt = str(body.get("prompt") or "")
    audio, words = sum(map(tokens.audio_tokens, files)), tokens.count(prompt)
    text = "This is a simulated transcription."
    answer = await _prepare(request, body, prompt, audio + words, tokens.count(text))
    usage = {
        "type": "tokens",
        "input_tokens": answer.call.prompt_tokens,
        "input_token_details": {"audio_tokens": audio, "text_tokens": words},
        "output_tokens": answer.call.completion_tokens,
        "total_tokens": answer.call.total_tokens,
    }
    return JSONResponse({"text": text, **_usage(answer, usage)})


@router.post("/rerank")
async def rerank(request: Request) -> dict[str, Any]:
    """Sort documents by how many words they share with the query."""
    body = await request.json()
    query, documents = str(body.get("query", "")), body.get("documents") or []
    texts = [str(item.get("text", "")) if isinstance(item, dict) else str(item) for item in documents]
    count = tokens.count(query) * len(texts) + sum(map(tokens.count, texts))
    answer = await _prepare(request, body, query, count)
    wanted = set(query.lower().split())
    scores = [len(wanted & set(text.lower().split())) / (len(wanted) or 1) for text in texts]
    order = sorted(range(len(texts)), key=lambda i: -scores[i])[: body.get("top_n") or len(texts)]
    results = [{"index": i, "relevance_score": scores[i], "document": {"text": texts[i]}} for i in order]
    usage = {"total_tokens": answer.call.total_tokens, "prompt_tokens": answer.call.prompt_tokens}
    return {"id": answer.id, "model": body.get("model"), "results": results, **_usage(answer, usage)}


@router.post("/moderations")
async def moderations(request: Request) -> dict[str, Any]:
    """Find nothing wrong. Providers report no usage here."""
    body = await request.json()
    given = body.get("input")
    answer = await _prepare(request, body, given, tokens.count_any(given), reported=False)
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0}}
    count = len(given) if isinstance(given, list) else 1
    return {"id": answer.id, "model": body.get("model"), "results": [result] * count}


async def _images(request: Request, body: dict[str, Any], count: int) -> dict[str, Any]:
    number = int(body.get("n") or 1)
    answer = await _prepare(request, body, body.get("prompt"), count, IMAGE_TOKENS * number)
    usage = {
        "input_tokens": answer.call.prompt_tokens,
        "output_tokens": answer.call.completion_tokens,
        "total_tokens": answer.call.total_tokens,
        "input_tokens_details": {"text_tokens": answer.call.prompt_tokens, "image_tokens": 0},
    }
    return {"created": int(now()), "data": [{"b64_json": PIXEL}] * number, **_usage(answer, usage)}


async def _prepare(
    request: Request, body: dict[str, Any], prompt: object, count: int, produced: int = 0, *, reported: bool = True
) -> Answer:
    answer = await prepare(request, body, prompt, count, cap=0)
    answer.call.completion_tokens = produced
    finish(answer, usage=reported and answer.reports_usage)
    return answer


def _usage(answer: Answer, usage: dict[str, Any]) -> dict[str, Any]:
    return {"usage": usage} if answer.reports_usage else {}


async def _form(request: Request) -> tuple[dict[str, Any], list[bytes]]:
    """Return a form's fields and the contents of its files."""
    async with request.form() as form:
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        files = [await value.read() for _, value in form.multi_items() if isinstance(value, UploadFile)]
    return fields, files


def _vector(text: object) -> list[float]:
    numbers = [0.01] * DIMENSIONS
    for position, character in enumerate(str(text)):
        numbers[position % DIMENSIONS] += ord(character) / 1000
    return numbers
