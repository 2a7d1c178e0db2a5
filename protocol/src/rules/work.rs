//! Gathering, making and building: what takes time and creates things.

use super::View;
use super::carry::{free_spot, raise};
use super::draft::Draft;
use super::effect::Change;
use super::event::Detail;
use super::kind::{Recipe, RecipeId};
use super::limits::BUILT_MAX;
use super::ticks;
use super::verb::Args;
use super::why::Why;
use crate::ids::EntityId;

pub fn gather<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let id = draft.target()?;
    if draft.act.args != Args::None {
        return Err(Why::BadArgs);
    }
    let (thing, kind) = draft.standing(id)?;
    let gather = kind.gather.as_ref().ok_or(Why::NotPossible)?;
    let left = thing.left(kind, draft.now());
    if left == 0 {
        return Err(Why::Spent { until: thing.state.ready_at });
    }
    draft.check_tool(gather.tool)?;
    let ready_at = draft.now().after(ticks(gather.regrow_ms, draft.view.hz()));
    draft.set(id, Change::Gathered { times: gather.times - left + 1, ready_at })?;
    draft.create(gather.yields, draft.id)?;
    draft.check_room(draft.id)?;
    draft.happen(Some(id), Detail::Lot(gather.yields));
    Ok(())
}

pub fn make<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let Args::Recipe(id) = draft.act.args else { return Err(Why::BadArgs) };
    let recipe = recipe(draft, id, false)?;
    check_station(draft, recipe)?;
    use_up(draft, recipe)?;
    draft.create(recipe.output, draft.id)?;
    draft.check_room(draft.id)?;
    draft.happen(draft.act.target, Detail::Made { recipe: recipe.id, output: recipe.output });
    Ok(())
}

pub fn build<V: View + ?Sized>(draft: &mut Draft<'_, V>) -> Result<(), Why> {
    let Args::Site { recipe: id, at, yaw } = draft.act.args else { return Err(Why::BadArgs) };
    let recipe = recipe(draft, id, true)?;
    if BUILT_MAX <= draft.view.things().owned_by(draft.id) {
        return Err(Why::TooMuchBuilt { max: u32::try_from(BUILT_MAX).unwrap_or(u32::MAX) });
    }
    check_station(draft, recipe)?;
    let kind = draft.kind(recipe.output.kind)?;
    let at = free_spot(draft, at, kind)?;
    use_up(draft, recipe)?;
    let new = EntityId(draft.mint());
    draft.push(raise(new, kind, at, yaw, draft.id))?;
    draft.happen(Some(new), Detail::Made { recipe: recipe.id, output: recipe.output });
    Ok(())
}

fn recipe<'a, V: View + ?Sized>(
    draft: &Draft<'a, V>,
    id: RecipeId,
    built: bool,
) -> Result<&'a Recipe, Why> {
    let recipe = draft.view.book().recipe(id).ok_or(Why::NoSuchRecipe)?;
    if recipe.built == built { Ok(recipe) } else { Err(Why::NoSuchRecipe) }
}

fn check_station<V: View + ?Sized>(draft: &mut Draft<'_, V>, recipe: &Recipe) -> Result<(), Why> {
    let Some(station) = recipe.station else { return Ok(()) };
    let target = draft.act.target.ok_or(Why::NeedsStation { station })?;
    let (thing, _) = draft.standing(target)?;
    if thing.kind == station { Ok(()) } else { Err(Why::NeedsStation { station }) }
}

fn use_up<V: View + ?Sized>(draft: &mut Draft<'_, V>, recipe: &Recipe) -> Result<(), Why> {
    draft.check_tool(recipe.tool)?;
    recipe.inputs.iter().try_for_each(|&input| draft.spend(input))
}
