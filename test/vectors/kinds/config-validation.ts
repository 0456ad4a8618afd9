// which files are accepted.
import assert from 'node:assert/strict';
import { loadConfig } from '../../../agent/config/load.ts';
import { ConfigError } from '../../../agent/config/types.ts';

interface Vector {
  input: { file: object };
  expect: { valid: boolean };
}

export function run(vector: Vector): void {
  let refused: string | null = null;
  try {
    loadConfig({ argv: ['--config=config.conf'], readFile: () => JSON.stringify(vector.input.file) });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    refused = error.message;
  }
  assert.equal(refused === null, vector.expect.valid, refused ?? 'accepted');
}
