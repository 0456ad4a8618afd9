// Changes to IPVS: what they are called, whether they can be sent, and how they are written.
import { genlmsghdr } from '../netlink/generic.ts';
import { type MessageWriter, NLM_F_REQUEST } from '../netlink/message.ts';
import {
  COMMAND,
  destinationIdProblem,
  destinationProblem,
  type RealServerId,
  serverIdProblem,
  serverProblem,
  writeDestination,
  writeServer,
} from './message.ts';
import { type RealServer, type ServerId, serverKey, socketText, type VirtualServer } from './objects.ts';

export type IpvsRequest =
  | { readonly command: 'newServer' | 'setServer'; readonly server: VirtualServer }
  | { readonly command: 'deleteServer'; readonly server: ServerId }
  | {
      readonly command: 'newDestination' | 'setDestination';
      readonly server: ServerId;
      readonly destination: RealServer;
    }
  | {
      readonly command: 'deleteDestination';
      readonly server: ServerId;
      readonly destination: RealServerId;
    };

const WORDS: Readonly<Record<IpvsRequest['command'], string>> = {
  newServer: 'add virtual server',
  setServer: 'change virtual server',
  deleteServer: 'delete virtual server',
  newDestination: 'add real server',
  setDestination: 'change real server',
  deleteDestination: 'delete real server',
};

/** `add real server 10.244.0.2:8080 of TCP 10.96.0.1:80`. */
export function requestText(request: IpvsRequest): string {
  const key = serverKey(request.server);
  if (!('destination' in request)) return `${WORDS[request.command]} ${key}`;
  return `${WORDS[request.command]} ${socketText(request.destination.ip, request.destination.port)} of ${key}`;
}

/** The field at fault and what is wrong with it, or null when the request can be sent. */
export function requestProblem(request: IpvsRequest): string | null {
  switch (request.command) {
    case 'newServer':
    case 'setServer':
      return serverProblem(request.server);
    case 'deleteServer':
      return serverIdProblem(request.server);
    case 'newDestination':
    case 'setDestination':
      return serverIdProblem(request.server) ?? destinationProblem(request.destination);
    case 'deleteDestination':
      return serverIdProblem(request.server) ?? destinationIdProblem(request.destination);
  }
}

/** Appends the message of a request without a problem. `type` is the number of the family IPVS. */
export function writeRequest(
  writer: MessageWriter,
  type: number,
  flags: number,
  seq: number,
  request: IpvsRequest,
): void {
  writer.startMessage(type, NLM_F_REQUEST | flags, seq);
  writer.raw(genlmsghdr(COMMAND[request.command]));
  switch (request.command) {
    case 'newServer':
    case 'setServer':
      writeServer(writer, request.server, request.server);
      break;
    case 'deleteServer':
      writeServer(writer, request.server, null);
      break;
    case 'newDestination':
    case 'setDestination':
      writeServer(writer, request.server, null);
      writeDestination(writer, request.destination, request.destination);
      break;
    case 'deleteDestination':
      writeServer(writer, request.server, null);
      writeDestination(writer, request.destination, null);
  }
  writer.endMessage();
}
