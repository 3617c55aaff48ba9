//! What a page needs to show structures: 3Dmol.js as its authors build it, and our script that draws a target with its binder through it.

/// 3Dmol.js 2.5.5, unchanged; version, checksum and licence are in the README beside it.
pub const LIBRARY: &str = include_str!("3Dmol-min.js");
/// Its licence, which a page that contains it carries.
pub const LICENCE: &str = include_str!("3Dmol-LICENSE.txt");
/// `foldViewer`, over the library.
pub const SCRIPT: &str = include_str!("viewer.js");

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    #[test]
    fn the_library_is_the_one_that_its_readme_names() {
        let checksum: String = Sha256::digest(LIBRARY).iter().map(|byte| format!("{byte:02x}")).collect();
        let readme = include_str!("README.md");
        assert!(readme.contains(&checksum), "{checksum}");
        assert!(LICENCE.contains("BSD-3-Clause"));
    }

    #[test]
    fn scripts_can_stand_in_a_page() {
        for script in [LIBRARY, SCRIPT] {
            let lower = script.to_ascii_lowercase();
            assert!(!lower.contains("</script") && !lower.contains("<!--"));
        }
        // Nothing of ours makes markup of text.
        assert!(["innerHTML", "document.write", "eval("].iter().all(|word| !SCRIPT.contains(word)));
    }
}
