// What is used of undici, by modules of a pinned version: the rest, fetch and caches and mocks, took a sixth of the agent's
// time to load.
import api from 'undici/lib/api/index.js';
import Agent from 'undici/lib/dispatcher/agent.js';
import Dispatcher from 'undici/lib/dispatcher/dispatcher.js';
import ProxyAgent from 'undici/lib/dispatcher/proxy-agent.js';

// As the package itself does when it is loaded: `request` and `connect` become methods.
Object.assign(Dispatcher.prototype, api);

export { Agent, ProxyAgent };
