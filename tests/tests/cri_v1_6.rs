//! Pods in containerd 1.6, Debian 12's.

mod cri;

cri::tests!(v1_6, V1_6);
