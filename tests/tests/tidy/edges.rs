//! Which crate may depend on which.
//!
//! Reads `cargo metadata` only; what a crate says in its sources is `words`' business.

use serde_json::Value;

use crate::source::Problem;

/// Crate, and those of ours it may depend on, dev-dependencies included.
const EDGES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("avatar", &["protocol"]),
    ("worldgen", &["protocol"]),
    ("npc", &["protocol", "avatar"]),
    ("persona", &["protocol"]),
    ("server", &["protocol", "avatar", "worldgen", "npc", "persona"]),
    ("client-viewer", &["protocol", "avatar", "worldgen"]),
    ("tests", &["protocol", "avatar", "worldgen", "npc", "persona", "server", "client-viewer"]),
];

/// Dependencies that must be taken without default features: a viewer needs no generator.
const BARE: &[(&str, &str)] = &[("client-viewer", "worldgen")];

/// Returns what is wrong with the workspace's edges.
pub fn check(metadata: &Value) -> Vec<Problem> {
    let members = members(metadata);
    let names: Vec<&str> = members.iter().map(|package| text(&package["name"])).collect();
    members.iter().flat_map(|package| check_crate(package, &names)).collect()
}

/// Returns the packages of this workspace.
pub fn members(metadata: &Value) -> Vec<&Value> {
    let ids = metadata["workspace_members"].as_array().expect("metadata lists its members");
    let packages = metadata["packages"].as_array().expect("metadata lists its packages");
    packages.iter().filter(|package| ids.contains(&package["id"])).collect()
}

fn check_crate(package: &Value, names: &[&str]) -> Vec<Problem> {
    let name = text(&package["name"]);
    let file = format!("{name}/Cargo.toml");
    let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
        let what = "this crate is new: say in tests/tests/tidy/edges.rs what it may depend on";
        return vec![Problem::at(&file, 0, what)];
    };
    let mut problems = Vec::new();
    for dependency in package["dependencies"].as_array().into_iter().flatten() {
        let on = text(&dependency["name"]);
        if names.contains(&on) && !allowed.contains(&on) {
            let what = format!(
                "{name} may not depend on {on}: define a trait or message in the lower crate"
            );
            problems.push(Problem::at(&file, 0, what));
        }
        if BARE.contains(&(name, on)) && dependency["uses_default_features"] != false {
            let what = format!("{name} takes {on} with `default-features = false`");
            problems.push(Problem::at(&file, 0, what));
        }
    }
    problems
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(of: &str, on: &str, default_features: bool) -> Value {
        let dependency =
            json!({ "name": on, "kind": "dev", "uses_default_features": default_features });
        json!({
            "workspace_members": [of, on],
            "packages": [
                { "id": of, "name": of, "dependencies": [dependency] },
                { "id": on, "name": on, "dependencies": [] },
                { "id": "serde", "name": "serde", "dependencies": [{ "name": "server" }] },
            ],
        })
    }

    fn count(of: &str, on: &str, default_features: bool) -> usize {
        check(&workspace(of, on, default_features)).len()
    }

    #[test]
    fn a_lower_crate_may_not_know_a_higher_one() {
        assert_eq!(count("protocol", "server", true), 1);
        assert_eq!(count("npc", "persona", true), 1);
        assert_eq!(count("server", "client-viewer", true), 1);
        assert_eq!(count("server", "persona", true), 0);
    }

    #[test]
    fn a_viewer_takes_no_generator() {
        assert_eq!(count("client-viewer", "worldgen", true), 1);
        assert_eq!(count("client-viewer", "worldgen", false), 0);
    }

    #[test]
    fn a_new_crate_has_to_be_placed() {
        assert_eq!(count("economy", "protocol", true), 1);
    }
}
