//! Pods in the newest containerd.

mod cri;

cri::tests!(v2_3, V2_3);
