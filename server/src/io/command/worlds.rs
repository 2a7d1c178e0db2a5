//! `ecumene world`: makes worlds and looks at them.

use std::io::Write;
use std::path::Path;

use protocol::units::Position;
use worldgen::io::dem;
use worldgen::preview::render_map;
use worldgen::{Seeded, Terrain};

use super::{World, say};
use crate::cli::{Exit, Failure, WorldCommand, print};
use crate::io::files::IDENTITY_FILE;
use crate::io::launch::{Place, worlds};
use crate::io::{clock, files, png, rng};
use crate::world::{Manifest, Wish};

pub(super) fn run(
    place: &Place,
    command: WorldCommand,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    match command {
        WorldCommand::New { name, seed, terrain, rating } => {
            let seed = seed.unwrap_or_else(|| u64::from_le_bytes(rng::random()));
            let terrain = terrain.map(|path| path.display().to_string());
            let (data, made) = place.make_world(Wish { name, seed, terrain, rating })?;
            let Manifest { name, id, seed, .. } = made;
            let data = data.display();
            say(
                out,
                &format!(
                    "made the world `{name}` ({id}) from seed {seed} in {data}\n\
                     run it with: ecumene serve --world {name}\n"
                ),
            )
        }
        WorldCommand::List => say(out, &print::worlds(&worlds(&place.root())?, clock::unix_s())),
        WorldCommand::Info => info(&World::find(place)?, out),
        WorldCommand::Preview { out: file, metres, pixels } => {
            preview(&World::find(place)?, &file, metres, pixels, out)
        }
    }
}

fn info(world: &World, out: &mut dyn Write) -> Result<Exit, Failure> {
    let World { data, manifest, .. } = world;
    let identity = if files::exists(&data.join(IDENTITY_FILE)) {
        files::identity(data)?.public().to_string()
    } else {
        "made at the first start".to_owned()
    };
    let folder = data.display();
    say(
        out,
        &format!("{}\n# identity {identity}\n# folder   {folder}\n", manifest.to_text().trim()),
    )
}

fn preview(
    world: &World,
    file: &Path,
    metres: u32,
    pixels: u32,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let Manifest { terrain, seed, .. } = &world.manifest;
    let ground: Box<dyn Terrain> = if terrain == "generated" {
        Box::new(Seeded::new(*seed))
    } else {
        let survey = dem::load(Path::new(terrain), None);
        Box::new(survey.map_err(|error| Failure::new(Exit::Failed, error))?)
    };
    let rgb = render_map(&*ground, Position::default(), metres, pixels, pixels);
    let rgb = rgb.map_err(|bad| Failure::new(Exit::Usage, bad))?;
    let png = png::encode(&rgb, pixels, pixels);
    let png = png.ok_or_else(|| Failure::new(Exit::Failed, "the map cannot be encoded"))?;
    files::write_bytes(file, &png)?;
    let width_m = u64::from(metres) * u64::from(pixels);
    say(out, &format!("drew {width_m} m of ground to a side, north up, into {}\n", file.display()))
}
