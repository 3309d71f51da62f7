//! A guest's MSI-X table on KVM.

fn main() {}
