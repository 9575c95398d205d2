//! Recipes: what a stage is made of, and what that is made of, down to sources and seeds.
//!
//! A key names inputs by content and is not known before they exist; a recipe names them by their recipes and always is. Two stages of
//! one recipe have one key in the end.

use std::collections::BTreeMap;

use super::{PlanError, declared_material, key_of, order};
use crate::{digest::Digest, pipeline::Pipeline, store::Store};

/// The recipes of the targets and of all that they need, of everything if `targets` is empty, by name.
pub fn recipes(pipeline: &Pipeline, store: &Store, targets: &[String]) -> Result<BTreeMap<String, Digest>, PlanError> {
    let mut recipes: BTreeMap<usize, Digest> = BTreeMap::new();
    for order::Ordered { index, inputs: ports } in order::order(pipeline, targets, &[])?.stages {
        let declared = &pipeline.stages[index];
        let mut inputs: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
        for (role, producer) in ports {
            inputs.entry(role.to_owned()).or_default().extend(recipes.get(&producer));
        }
        let material = declared_material(pipeline, store, declared, inputs)?;
        recipes.insert(index, key_of(declared, &material)?.digest());
    }
    Ok(recipes.into_iter().map(|(index, recipe)| (pipeline.stages[index].name.clone(), recipe)).collect())
}
