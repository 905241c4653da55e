"""What the official SDKs know of what we send.

Each line of stdin is {"wire", "body"}; each line of stdout says what is wrong with that body, or nothing.
"""

import base64
import json
import sys

from pydantic import ConfigDict, TypeAdapter


def drain(value):
    """Lists in the SDKs' types are validated as they are read."""
    for inner in value.values() if isinstance(value, dict) else value:
        if not isinstance(inner, (str, bytes)) and hasattr(inner, "__iter__"):
            drain(inner)


def typed(params):
    adapter = TypeAdapter(list[params], config=ConfigDict(extra="forbid"))
    return lambda body: drain(adapter.validate_python([body]))


def anthropic():
    from anthropic.types.message_create_params import MessageCreateParamsStreaming

    return typed(MessageCreateParamsStreaming)


def chat():
    from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming

    return typed(CompletionCreateParamsStreaming)


def responses():
    from openai.types.responses.response_create_params import ResponseCreateParamsStreaming

    return typed(ResponseCreateParamsStreaming)


def gemini():
    from google.genai import types

    def check(body):
        for content in body["contents"] + [body[k] for k in ["systemInstruction"] if k in body]:
            types.Content.model_validate(content)
        types.GenerationConfig.model_validate(body["generationConfig"])
        for tool in body.get("tools", []):
            types.Tool.model_validate(tool)

    return check


def ollama():
    from ollama import Message, Options, Tool

    def check(body):
        for message in body["messages"]:
            # The SDK takes images as objects where the wire has base64.
            images = [{"value": image} for image in message.get("images", [])]
            Message.model_validate({**message, "images": images})
        for tool in body.get("tools", []):
            Tool.model_validate(tool)
        Options.model_validate(body["options"])

    return check


def bedrock():
    import botocore.session
    from botocore.validate import ParamValidator

    service = botocore.session.Session().get_service_model("bedrock-runtime")
    shape = service.operation_model("ConverseStream").input_shape

    def blobs(value):
        """The SDK takes bytes where the wire has base64."""
        if isinstance(value, dict):
            is_blob = lambda k, v: k in ("bytes", "redactedContent") and isinstance(v, str)
            return {k: base64.b64decode(v) if is_blob(k, v) else blobs(v) for k, v in value.items()}
        return [blobs(v) for v in value] if isinstance(value, list) else value

    def check(body):
        report = ParamValidator().validate({**blobs(body), "modelId": "m"}, shape)
        if report.has_errors():
            raise ValueError(report.generate_report())

    return check


MAKERS = {
    "Anthropic": anthropic,
    "OpenAiChat": chat,
    "OpenAiResponses": responses,
    "Gemini": gemini,
    "Ollama": ollama,
    "Bedrock": bedrock,
}

checks = {}
for line in sys.stdin:
    item = json.loads(line)
    wire = item["wire"]
    if wire not in checks:
        checks[wire] = MAKERS[wire]()
    try:
        checks[wire](item["body"])
        print(flush=True)
    except Exception as error:
        print(" | ".join(str(error).split("\n"))[:3000] or repr(error), flush=True)
