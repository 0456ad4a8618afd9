// The objects the agent keeps, and the parsers that make them of untrusted JSON.
export { type EndpointSlice, parseEndpointSlice, type SliceEndpoint, type SlicePort } from './endpoint-slice.ts';
export { type Node, parseNode, parseServiceCIDR, type ServiceCIDR } from './node.ts';
export { objectLabel, type Parsed, type Problem } from './problem.ts';
export { parseService, type Service, type ServiceSpecPort } from './service.ts';
