//! The values behind the golden vectors of assets' streams: every kind, every variant.

use protocol::ids::{ContentHash, PersonId};
use protocol::message::asset::*;

/// A vector's name, what it shows, and its value.
type Named<T> = (&'static str, &'static str, T);

/// Everything a client can ask.
pub fn requests() -> Vec<Named<AssetRequest>> {
    let offer = |name: &str, media: &str, audience, keep_s| OfferAsset {
        hash: ContentHash::of(b"ground"),
        length: 6,
        media: media.into(),
        name: name.into(),
        audience,
        keep_s,
    };
    let friends = AssetAudience::Persons(vec![PersonId(77), PersonId(0x1122_3344_5566)]);
    let hash = ContentHash::of(b"ground");
    vec![
        (
            "offer-asset",
            "for everyone, for a day, with a short name and a long type",
            offer("hat.glb", "model/gltf-binary", AssetAudience::Everyone, 86_400).into(),
        ),
        (
            "offer-asset-persons",
            "for two persons, with a long name and a short type",
            offer("a hat for two, 白.txt", "a/b", friends, 60).into(),
        ),
        (
            "offer-asset-owner",
            "for oneself, for as long as the server likes",
            offer("notes", "text/plain", AssetAudience::Owner, 0).into(),
        ),
        ("fetch-asset", "from its beginning", FetchAsset { hash, offset: 0 }.into()),
        (
            "fetch-asset-rest",
            "all but the first million bytes",
            FetchAsset { hash, offset: 1_000_000 }.into(),
        ),
        ("withdraw-asset", "takes it back", WithdrawAsset { hash }.into()),
    ]
}

/// Everything a server can answer.
pub fn replies() -> Vec<Named<AssetReply>> {
    let refused = |why| AssetReply::from(AssetRefused { why });
    let quota = AssetWhy::Quota { bytes_left: 5_000_000, assets_left: 3 };
    let hash = ContentHash::of(b"ground");
    let found = AssetFound {
        length: 6,
        media: "model/gltf-binary".into(),
        name: "hat.glb".into(),
        until: Some(1_700_000_000),
    };
    let rules = AssetFound {
        length: 20_000,
        media: protocol::asset::RULES_MEDIA.into(),
        name: "rules".into(),
        until: None,
    };
    vec![
        ("asset-wanted", "all of it", AssetWanted { from: 0 }.into()),
        ("asset-wanted-rest", "the rest of it", AssetWanted { from: 65_536 }.into()),
        ("asset-kept", "until a moment", AssetKept { until: 1_700_000_000 }.into()),
        ("asset-refused-forbidden", "a visitor offers", refused(AssetWhy::Forbidden)),
        ("asset-refused-muted", "one who is muted offers", refused(AssetWhy::Muted)),
        ("asset-refused-length", "too long", refused(AssetWhy::Length { max: 4_194_304 })),
        ("asset-refused-media", "a type that is not taken", refused(AssetWhy::Media)),
        ("asset-refused-name", "a name with a folder", refused(AssetWhy::Name)),
        ("asset-refused-audience", "for a thousand persons", refused(AssetWhy::Audience)),
        ("asset-refused-quota", "more than one may keep", refused(quota)),
        ("asset-refused-full", "more than the server keeps", refused(AssetWhy::Full)),
        ("asset-refused-too-many", "too fast", refused(AssetWhy::TooMany { retry_ms: 500 })),
        ("asset-refused-corrupt", "other bytes", refused(AssetWhy::Corrupt)),
        ("asset-refused-short", "half of the bytes", refused(AssetWhy::Short { got: 3 })),
        ("asset-refused-offset", "behind the end", refused(AssetWhy::Offset { length: 6 })),
        ("asset-refused-store", "the disk is full", refused(AssetWhy::Store)),
        ("asset-found", "somebody's", found.into()),
        ("asset-found-rules", "the world's own", rules.into()),
        ("asset-withheld", "none, or none for whoever asks", AssetWithheld { hash }.into()),
    ]
}
