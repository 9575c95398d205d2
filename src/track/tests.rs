use serde_json::json;

use super::*;

#[test]
fn parameters_are_flat_and_what_is_not_set_is_left_out() {
    let mut flat = BTreeMap::new();
    let parameters = json!({
        "loss": { "kind": "relativistic", "r1": 0.1, "penalty": null }, "ema": 0.999, "layers": [8, 8], "start": null,
    });
    flatten("", &parameters, &mut flat);
    let expected = [
        ("ema", json!(0.999)),
        ("layers", json!("[8,8]")),
        ("loss.kind", json!("relativistic")),
        ("loss.r1", json!(0.1)),
    ];
    assert_eq!(flat, expected.map(|(name, value)| (name.to_owned(), value)).into());
}
