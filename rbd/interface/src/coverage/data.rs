//! The C functions that are not called, and why. Each is a decision.

/// A function, and the newer one that replaces it.
pub(super) struct Superseded {
    pub(super) symbol: &'static str,
    pub(super) by: &'static str,
}

/// Functions without a wrapper. Names may end in `*`. A function that is called nevertheless does
/// not count here.
pub(super) struct LeftOut {
    pub(super) symbols: &'static [&'static str],
    pub(super) why: &'static str,
}

macro_rules! superseded {
    ($($($symbol:ident)+ => $by:ident;)*) => {
        &[$($(Superseded { symbol: stringify!($symbol), by: stringify!($by) },)+)*]
    };
}

pub(super) const SUPERSEDED: &[Superseded] = superseded! {
    // librbd: the newer one takes options, flags or a progress callback.
    rbd_list => rbd_list2;
    rbd_create rbd_create2 rbd_create3 => rbd_create4;
    rbd_clone rbd_clone2 => rbd_clone3;
    rbd_remove => rbd_remove_with_progress;
    rbd_resize rbd_resize_with_progress => rbd_resize2;
    rbd_trash_purge => rbd_trash_purge_with_progress;
    rbd_trash_remove => rbd_trash_remove_with_progress;
    rbd_migration_execute => rbd_migration_execute_with_progress;
    rbd_migration_abort => rbd_migration_abort_with_progress;
    rbd_migration_commit => rbd_migration_commit_with_progress;
    rbd_get_parent_info rbd_get_parent_info2 => rbd_get_parent;
    rbd_copy rbd_copy3 rbd_copy4 rbd_copy_with_progress rbd_copy_with_progress3 => rbd_copy_with_progress4;
    rbd_copy2 => rbd_copy_with_progress2;
    rbd_deep_copy => rbd_deep_copy_with_progress;
    rbd_flatten => rbd_flatten_with_progress;
    rbd_sparsify => rbd_sparsify_with_progress;
    rbd_snap_create => rbd_snap_create2;
    rbd_snap_remove => rbd_snap_remove2;
    rbd_snap_rollback => rbd_snap_rollback_with_progress;
    rbd_list_children rbd_list_children2 => rbd_list_children3;
    rbd_list_child_cleanup rbd_list_children_cleanup => rbd_linked_image_spec_list_cleanup;
    rbd_diff_iterate => rbd_diff_iterate2;
    rbd_read_iterate => rbd_read_iterate2;
    rbd_read => rbd_read2;
    rbd_write => rbd_write2;
    rbd_aio_write => rbd_aio_write2;
    rbd_group_snap_create => rbd_group_snap_create2;
    rbd_group_snap_rollback => rbd_group_snap_rollback_with_progress;
    rbd_mirror_peer_add => rbd_mirror_peer_site_add;
    rbd_mirror_peer_remove => rbd_mirror_peer_site_remove;
    rbd_mirror_peer_list => rbd_mirror_peer_site_list;
    rbd_mirror_peer_list_cleanup => rbd_mirror_peer_site_list_cleanup;
    rbd_mirror_peer_set_client => rbd_mirror_peer_site_set_client_name;
    rbd_mirror_peer_set_cluster => rbd_mirror_peer_site_set_name;
    rbd_mirror_peer_get_attributes => rbd_mirror_peer_site_get_attributes;
    rbd_mirror_peer_set_attributes => rbd_mirror_peer_site_set_attributes;
    rbd_mirror_image_enable => rbd_mirror_image_enable2;
    rbd_mirror_image_create_snapshot => rbd_mirror_image_create_snapshot2;
    rbd_mirror_image_get_status => rbd_mirror_image_get_global_status;
    rbd_aio_mirror_image_get_status => rbd_aio_mirror_image_get_global_status;
    rbd_mirror_image_status_list => rbd_mirror_image_global_status_list;
    rbd_mirror_image_status_list_cleanup => rbd_mirror_image_global_status_list_cleanup;
    // librados
    rados_create rados_create_with_context => rados_create2;
    rados_ioctx_create => rados_ioctx_create2;
    rados_blacklist_add => rados_blocklist_add;
    rados_pool_create_with_auid rados_ioctx_pool_set_auid rados_ioctx_pool_get_auid => rados_pool_create;
    rados_ioctx_pool_requires_alignment => rados_ioctx_pool_requires_alignment2;
    rados_ioctx_pool_required_alignment => rados_ioctx_pool_required_alignment2;
    rados_rollback => rados_ioctx_snap_rollback;
    rados_omap_get_next => rados_omap_get_next2;
    rados_watch rados_watch2 => rados_watch3;
    rados_aio_watch => rados_aio_watch2;
    rados_unwatch => rados_unwatch2;
    rados_nobjects_list_next => rados_nobjects_list_next2;
    rados_monitor_log => rados_monitor_log2;
    rados_notify => rados_notify2;
};

pub(super) const LEFT_OUT: &[LeftOut] = &[
    // librbd
    LeftOut {
        symbols: &["rbd_snap_set"],
        why: "changes the handle under those who read from it; `OpenImage::snapshot` and \
              `Image::at_snapshot` open a handle at the snapshot instead (inside by \
              `rbd_snap_set_by_id`, before anybody else has it)",
    },
    LeftOut {
        symbols: &["rbd_features_to_string", "rbd_features_from_string"],
        why: "`Features` parses and prints without a library, keeps unknown bits, and refuses \
            unknown names one by one",
    },
    LeftOut {
        symbols: &[
            "rbd_image_options_get_string",
            "rbd_image_options_get_uint64",
            "rbd_image_options_is_set",
            "rbd_image_options_unset",
            "rbd_image_options_clear",
            "rbd_image_options_is_empty",
        ],
        why: "builders keep the options in Rust and fill a new set for each call, so there is \
            nothing to ask or to clear",
    },
    LeftOut {
        symbols: &["rbd_image_spec_cleanup"],
        why: "frees a single spec, which no function of the header gives; lists are freed by \
            `rbd_image_spec_list_cleanup`",
    },
    LeftOut {
        symbols: &["rbd_aio_write_with_crc32c"],
        why: "spares librbd a checksum that the caller must have at hand, of exactly these bytes; \
            to be added when a program has",
    },
    LeftOut {
        symbols: &["rbd_aio_is_complete"],
        why: "a completion tells by its callback, or is reaped in batches; it is never asked",
    },
    // librados: functions that an RBD program does not need, whole families by pattern.
    LeftOut {
        symbols: &["rados_write_op_*", "rados_read_op_*", "rados_aio_write_op_*", "rados_aio_read_op_*"],
        why: "compound operations on RADOS objects: applications that define an object format of \
              their own need them; RBD's is librbd's business, and `rados::Objects` reads and \
              sets keys",
    },
    LeftOut {
        symbols: &["rados_aio_*"],
        why: "asynchronous I/O on RADOS objects; that of images is librbd's",
    },
    LeftOut {
        symbols: &[
            "rados_writesame",
            "rados_append",
            "rados_trunc",
            "rados_cmpext",
            "rados_checksum",
            "rados_setxattr",
            "rados_rmxattr",
            "rados_set_alloc_hint*",
            "rados_cache_*",
        ],
        why: "changes RADOS objects behind librbd's back, which destroys images; for objects of \
              one's own `rados::Objects` writes and removes",
    },
    LeftOut {
        symbols: &["rados_getxattr", "rados_application_metadata_get"],
        why: "gives one value; `rados::Objects::attributes` and `ApplicationMetadata::list` give \
            all in one call",
    },
    LeftOut {
        symbols: &["rados_*snap*"],
        why: "snapshots of pools and self-managed ones; those of images are librbd's, and a pool \
              that has one kind cannot have the other",
    },
    LeftOut {
        symbols: &["rados_lock_*", "rados_unlock", "rados_break_lock"],
        why: "advisory locks on RADOS objects; those on images are `AdvisoryLocks::list`",
    },
    LeftOut {
        symbols: &[
            "rados_watch*",
            "rados_unwatch*",
            "rados_notify*",
            "rados_decode_notify_response",
            "rados_free_notify_response",
        ],
        why: "watches of RADOS objects; those of images are `Image::watch_updates` and \
            `Image::watch_quiesce`",
    },
    LeftOut { symbols: &["rados_objects_list_*"], why: "deprecated by Ceph: answers -ENOTSUP" },
    LeftOut {
        symbols: &["rados_nobjects_list_seek*", "rados_nobjects_list_get_*", "rados_object_list*"],
        why: "lists objects in slices, for several workers; plain listing by \
            `rados::Objects::list` serves inspection",
    },
    LeftOut {
        symbols: &["rados_cct", "rados_ioctx_cct", "rados_ioctx_get_cluster"],
        why: "hands out Ceph's inner C++ context, or what our values know by themselves",
    },
    LeftOut {
        symbols: &["rados_conf_parse_argv", "rados_conf_parse_argv_remainder"],
        why: "Ceph's command line options; a Rust program parses its own and sets options on the builder",
    },
    LeftOut {
        symbols: &[
            "rados_pool_create_with_crush_rule",
            "rados_pool_create_with_all",
            "rados_pool_get_base_tier",
            "rados_ioctx_pool_require*",
            "rados_*osdmap_full_try",
            "rados_*pool_full_try",
            "rados_get_min_compatible_*",
            "rados_inconsistent_pg_list",
            "rados_ping_monitor",
        ],
        why: "administration of pools and the cluster: `Cluster::mon_command` does it and more, \
            as the `ceph` command does",
    },
    LeftOut {
        symbols: &["rados_ioctx_locator_set_key", "rados_get_last_version"],
        why: "images use no locators; versions are of single objects",
    },
];

/// Returns whether a pattern with at most two `*` matches a name.
pub(super) fn means(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    last.map_or(rest.is_empty(), |part| part.is_empty() || rest.is_empty() || name.ends_with(part))
}

#[cfg(test)]
mod tests {
    use super::means;

    #[test]
    fn patterns() {
        assert!(means("rados_aio_*", "rados_aio_read") && !means("rados_aio_*", "rados_read"));
        assert!(means("rados_*snap*", "rados_ioctx_snap_create"));
        assert!(means("rados_*pool_full_try", "rados_unset_pool_full_try"));
        assert!(!means("rados_*pool_full_try", "rados_pool_full_try_not"));
        assert!(means("rados_cct", "rados_cct") && !means("rados_cct", "rados_cct2"));
    }
}
