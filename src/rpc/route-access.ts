import type { DescMethod } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { clerkOf, type KeyClerk } from "../auth/key-changes.ts";
import { AccessService } from "../gen/audit/v1/access_service_pb.ts";
import type { AccessServiceCalls } from "./access-service.ts";
import { callKey, principalOf } from "./call.ts";
import { strictJsonDecoder } from "./interceptors.ts";

/** The RPCs about API keys, with the same JSON codec as all others: it names everything wrong with a request. */
export function addAccessService(router: ConnectRouter, calls: AccessServiceCalls): void {
	const { createApiKey, listApiKeys, rotateApiKey, revokeApiKey } = AccessService.method;
	const by = ({ values }: HandlerContext): KeyClerk => clerkOf(principalOf(values.get(callKey)));
	router.rpc(createApiKey, (request, context) => calls.createApiKey(request, by(context)), strict(createApiKey));
	router.rpc(listApiKeys, (request, context) => calls.listApiKeys(request, by(context)), strict(listApiKeys));
	router.rpc(rotateApiKey, (request, context) => calls.rotateApiKey(request, by(context)), strict(rotateApiKey));
	router.rpc(revokeApiKey, (request, context) => calls.revokeApiKey(request, by(context)), strict(revokeApiKey));
}

function strict(method: DescMethod) {
	return { jsonOptions: { ignoreUnknownFields: false, textDecoder: strictJsonDecoder(method.input) } };
}
