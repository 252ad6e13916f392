//! What a sweep file may say, as a JSON schema.

use serde_json::{Value, json};

use crate::recipe::Catalog;

/// The schema that sweep files are checked against.
pub(super) fn catalog() -> Catalog {
    Catalog::of_document("sweep", schema())
}

fn schema() -> Value {
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string",
                "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
                "examples": ["masking"],
                "description": "Name of the sweep; its runs go to `runs/<name>`.",
            },
            "description": { "type": "string", "description": "What it is for." },
            "recipe": { "type": "string", "description": "The recipe of all runs, relative to this file." },
            "set": { "$ref": "#/$defs/Overrides", "description": "Overrides of every run." },
            "stages": {
                "type": "object",
                "additionalProperties": { "$ref": "#/$defs/Stage" },
                "description": "A chain in the place of `recipe`: named recipes that start from one another's weights.",
            },
            "sweep": { "$ref": "#/$defs/Block", "description": "What varies." },
        },
        "$defs": {
            "Overrides": { "type": "object", "additionalProperties": true },
            "Values": {
                "type": "object",
                "additionalProperties": { "type": "array", "items": true, "minItems": 1 },
            },
            "Stage": {
                "type": "object",
                "additionalProperties": false,
                "required": ["recipe"],
                "properties": {
                    "recipe": { "type": "string", "description": "The recipe, relative to this file." },
                    "set": { "$ref": "#/$defs/Overrides" },
                    "init_from": { "type": "string", "description": "The stage whose weights it starts from." },
                },
            },
            "Block": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "grid": { "$ref": "#/$defs/Values", "description": "Lists of values, combined each with each." },
                    "zip": { "$ref": "#/$defs/Values", "description": "Lists of values of one length, taken in step." },
                    "list": {
                        "type": "array",
                        "items": { "$ref": "#/$defs/Item" },
                        "minItems": 1,
                        "description": "Variants, one after the other.",
                    },
                    "seeds": {
                        "anyOf": [
                            { "type": "integer", "minimum": 1, "maximum": 1000 },
                            { "type": "array", "items": { "type": "integer", "minimum": 0 }, "minItems": 1 },
                        ],
                        "description": "Seeds, or how many: `[0, 1, 2]` is `3`.",
                    },
                    "exclude": {
                        "type": "array",
                        "items": { "$ref": "#/$defs/Overrides" },
                        "description": "Combinations that are left out.",
                    },
                },
            },
            "Item": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "name": {
                        "type": "string",
                        "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$",
                        "examples": ["regular"],
                        "description": "Name of the variant.",
                    },
                    "set": { "$ref": "#/$defs/Overrides" },
                    "when": { "$ref": "#/$defs/Overrides", "description": "Only where other keys have these values, lists for one of them, or `\"> 1\"`." },
                    "sweep": { "$ref": "#/$defs/Block" },
                },
            },
        },
    })
}
