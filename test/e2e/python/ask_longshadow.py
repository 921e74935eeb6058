"""Asks a Longshadow cluster with nothing but grpcio and stubs made from the project's protos.

usage: ask_longshadow.py STUB_DIR HOST:PORT < request.json > answer.json

request.json: {"model": name, "ids": [...], "part_ids": ids a part, "max_new_tokens": n}
answer.json: {"ids": [...], "text": ..., "finish_reason": ..., "prompt_tokens": n, "events": [...]}
"""

import json
import sys

import grpc


def requests(pb, request):
    """The header, then the prompt in small parts."""
    yield pb.GenerateRequest(
        header=pb.GenerateHeader(
            model=request["model"], max_new_tokens=request["max_new_tokens"]
        )
    )
    ids, step = request["ids"], request["part_ids"]
    for begin in range(0, len(ids), step):
        part = pb.PromptPart(token_ids=pb.TokenIds(ids=ids[begin : begin + step]))
        yield pb.GenerateRequest(part=part)


def main():
    stub_dir, address = sys.argv[1:]
    sys.path.insert(0, stub_dir)
    from longshadow.router.v1 import router_service_pb2 as pb
    from longshadow.router.v1 import router_service_pb2_grpc as pb_grpc

    request = json.load(sys.stdin)
    answer = {"ids": [], "text": "", "events": []}
    with grpc.insecure_channel(address) as channel:
        router = pb_grpc.RouterServiceStub(channel)
        served = [model.name for model in router.ListModels(pb.ListModelsRequest()).models]
        answer["models"] = served
        for event in router.Generate(requests(pb, request), timeout=120):
            kind = event.WhichOneof("event")
            answer["events"].append(kind)
            if kind == "token":
                answer["ids"].append(event.token.token_id)
                answer["text"] += event.token.text
            elif kind == "finished":
                answer["text"] += event.finished.text
                answer["finish_reason"] = pb.FinishReason.Name(event.finished.finish_reason)
                answer["prompt_tokens"] = event.finished.usage.prompt_tokens
        try:
            list(router.Generate(requests(pb, {**request, "model": "nobody"}), timeout=30))
        except grpc.RpcError as error:
            answer["refusal"] = [error.code().name, error.details()]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
