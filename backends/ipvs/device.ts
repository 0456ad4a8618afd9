/** The dummy interface that holds the addresses of Services, so that packets to them reach IPVS (V-6). */
export const IPVS_DEVICE = 'kube-ipvs0';

/** The kernel's own addresses on it; no Service has such a one (V-9). */
export const isLinkLocal = (ip: string): boolean => /^fe[89ab]/.test(ip);
