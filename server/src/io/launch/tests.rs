//! Starts from an empty folder, and every way in which a start is refused.

use super::*;
use crate::token::from_text;

fn place(root: &tempfile::TempDir) -> Place {
    Place { root: Some(root.path().to_owned()), ..Place::default() }
}

#[test]
fn the_first_start_makes_a_world_and_one_token_and_the_second_finds_them() {
    let root = tempfile::tempdir().unwrap();
    let failed = prepare(place(&root), Some(7)).unwrap();
    let first = prepare(place(&root), Some(7)).unwrap();
    assert!(failed.first_token.is_some() && failed.first_token != first.first_token);
    keep_first_token(&first.data, &first.access).unwrap();
    assert_eq!((first.manifest.name.as_str(), first.manifest.seed), ("home", 7));
    let token = from_text(&first.first_token.unwrap()).unwrap();
    let mint = Mint::new(&first.identity);
    let now_s = clock::unix_s();
    let claims = mint.check(&token, first.manifest.id, now_s, |id| first.access.is_revoked(id));
    assert_eq!(claims.unwrap().role, Role::Admin);
    let kept = files::read_text(&first.data.join(ACCESS_FILE)).unwrap().unwrap();
    assert!(kept.contains(&claims.unwrap().id.to_string()));
    assert!(!kept.contains("token\":"), "{kept}");

    let second = prepare(place(&root), None).unwrap();
    assert_eq!(second.first_token, None);
    assert_eq!(second.manifest, first.manifest);
    assert_eq!(second.identity.public(), first.identity.public());
    let other = prepare(place(&root), Some(8)).unwrap_err().to_string();
    assert!(other.starts_with("the world `home` grew from seed 7, not 8;"), "{other}");
}

#[test]
fn the_worlds_own_file_goes_over_the_general_one_and_flags_over_both() {
    let root = tempfile::tempdir().unwrap();
    let general =
        "[world]\nname = \"sea\"\n[server]\nclients_max = 1\nname = \"A\"\n[chat]\nnearby_m = 1\n";
    files::write_text(&root.path().join(CONFIG_FILE), general).unwrap();
    let data = root.path().join("sea");
    files::make_private_folder(&data).unwrap();
    files::write_text(&data.join(CONFIG_FILE), "[server]\nclients_max = 2\nname = \"B\"\n")
        .unwrap();
    let flag = ("--set server.name=C".to_owned(), "server.name".to_owned(), "C".to_owned());
    let settings = Place { flags: vec![flag], ..place(&root) }.settings().unwrap();
    let config = &settings.config;
    assert_eq!((config.chat.nearby_m, config.server.clients_max), (1, 2));
    assert_eq!((config.server.name.as_str(), config.world.name.as_str()), ("C", "sea"));
}

#[test]
fn what_is_wrong_is_said_with_its_place_and_what_to_type() {
    let root = tempfile::tempdir().unwrap();
    let shown = root.path().display();
    let refused = |place: &Place| {
        let settings = place.settings();
        settings.and_then(|settings| place.world(&settings)).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&place(&root)),
        format!("there is no world `home` in {shown}; make it with: ecumene world new home"),
    );
    let wish = |name: &str| Wish {
        name: name.to_owned(),
        seed: 1,
        terrain: None,
        rating: "everyone".to_owned(),
    };
    place(&root).make_world(wish("sea")).unwrap();
    assert_eq!(
        refused(&place(&root)),
        format!("there is no world `home` in {shown}; there are: sea"),
    );
    assert_eq!(
        place(&root).make_world(wish("sea")).unwrap_err().to_string(),
        format!("there is a world `sea` in {shown} already"),
    );
    let elsewhere = Place { config: Some(root.path().join("no.toml")), ..place(&root) };
    assert_eq!(refused(&elsewhere), format!("there is no file {shown}/no.toml"));
    let typo = root.path().join(CONFIG_FILE);
    files::write_text(&typo, "[server]\nlisten = \"127.0.0.1\"\n").unwrap();
    assert_eq!(
        refused(&place(&root)),
        format!(
            "{shown}/ecumene.toml:2:10: `server.listen` is \"127.0.0.1\", must be an address and a \
             port such as \"127.0.0.1:4433\" or \"[::]:4433\""
        ),
    );
    files::write_text(&typo, "[telemetry]\nlevel = \"a=b=c\"\n").unwrap();
    let level = refused(&place(&root));
    assert!(level.starts_with(&format!("{shown}/ecumene.toml:2: `telemetry.level`: ")), "{level}");
}

#[test]
fn decisions_are_made_on_files_unless_somebody_has_them_open() {
    let root = tempfile::tempdir().unwrap();
    let started = prepare(place(&root), None).unwrap();
    let ban =
        AdminRequest::Ban { who: "p-1f".parse().unwrap(), until_s: None, why: "spam".to_owned() };
    decide_on_files(&started.data, &started.manifest, &ban).unwrap().unwrap();
    assert_eq!(read_access(&started.data).unwrap().bans.iter().count(), 1);
    let status = decide_on_files(&started.data, &started.manifest, &AdminRequest::Status);
    assert_eq!(status.unwrap(), None);
    let _server = crate::io::store::folder::DataFolder::take(&started.data).unwrap();
    let busy = decide_on_files(&started.data, &started.manifest, &ban).unwrap_err().to_string();
    assert!(busy.contains(" is in use by process "), "{busy}");
}
