/** The dummy interface that holds the addresses of Services, so that packets to them reach IPVS (V-6). */
export const IPVS_DEVICE = 'kube-ipvs0';
