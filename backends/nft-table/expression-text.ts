// A rule this project did not write, shown as its expressions.
import type { Expression } from '../../native/nftables/expression.ts';

const hex = (bytes: string): string => `0x${Buffer.from(bytes, 'latin1').toString('hex')}`;

/** One expression in brackets, in the manner of `nft --debug=netlink`. */
export function expressionText(e: Expression): string {
  const { name, ...fields } = e;
  const parts = Object.entries(fields).map(([key, value]) => {
    const bytes = key === 'data' || key === 'mask' || key === 'xor' || key === 'bytes';
    return `${key} ${bytes && typeof value === 'string' ? hex(value) : value}`;
  });
  return `[ ${name} ${parts.join(' ')} ]`;
}
