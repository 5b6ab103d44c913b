"""Any endpoint that speaks as OpenAI's does: a server of your own machine, a service, a proxy.

EXAMPLE_AI_URL names it (``http://127.0.0.1:8080/v1``), EXAMPLE_AI_MODEL the model, and EXAMPLE_AI_KEY the
key, if it wants one.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

from django.conf import settings

TIMEOUT = 60


def setting(name: str) -> str:
    """``EXAMPLE_AI_…`` as the settings have it; empty where they have none."""
    return str(getattr(settings, f"EXAMPLE_AI_{name}", ""))


def deltas(question: str) -> Iterator[tuple[str, str]]:
    """``("text" or "reasoning", piece)`` as they come. Raises OSError, ValueError."""
    body = {
        "model": setting("MODEL"),
        "messages": [{"role": "user", "content": question}],
        "stream": True,
    }
    request = urllib.request.Request(
        setting("URL").rstrip("/") + "/chat/completions",
        data=json.dumps(body).encode(),
        headers={
            "Content-Type": "application/json",
            "Authorization": f"Bearer {setting('KEY')}",
        },
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        for line in response:
            data = line.decode().strip().removeprefix("data:").strip()
            if data == "[DONE]":
                return
            if not data.startswith("{"):
                continue
            for choice in json.loads(data).get("choices", [])[:1]:
                delta = choice.get("delta", {})
                if piece := delta.get("reasoning_content"):
                    yield "reasoning", piece
                if piece := delta.get("content"):
                    yield "text", piece
