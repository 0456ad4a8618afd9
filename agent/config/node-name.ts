// The name of the own Node (P-9).
import { ConfigError } from './types.ts';

/** A node name as it is compared: trimmed and lower-cased. */
export function normaliseNodeName(name: string): string {
  return name.trim().toLowerCase();
}

/** The override, or the host's name when there is none; trimmed and lower-cased. Empty is a ConfigError. */
export function nodeName(hostnameOverride: string, hostname: string): string {
  const name = normaliseNodeName(hostnameOverride === '' ? hostname : hostnameOverride);
  if (name === '')
    throw new ConfigError(['hostnameOverride: the node name is empty; give one with --hostname-override']);
  return name;
}
