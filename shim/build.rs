//! Links the shim without PIE: a position-independent program writes its relocations into 250 KiB of pages at each
//! start, which every daemon, one for each pod of a node, would then have for itself. What it gives up is the random
//! place of the program itself; heap, stacks and libraries keep theirs.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bins=-no-pie");
}
