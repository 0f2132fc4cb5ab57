//! The parameters of a storage class, with the names that the classes of ceph-csi use.

use std::collections::HashMap;

use rbd::features::Features;
use tonic::Status;

use crate::slips;

/// The names that this driver reads.
const NAMES: [&str; 18] = [
    "clusterID",
    "csi.storage.k8s.io/fstype",
    "dataPool",
    "encrypted",
    "fixFeatures",
    "imageFeatures",
    "mapOptions",
    "mkfsOptions",
    "mounter",
    "objectSize",
    "pool",
    "radosNamespace",
    "snapshotNamePrefix",
    "stripeCount",
    "stripeUnit",
    "topologyConstrainedPools",
    "volumeGroupNamePrefix",
    "volumeNamePrefix",
];

/// Parameters of a storage class. They go to the nodes in the context of the volume.
#[derive(Debug, Clone, Default)]
pub struct Class(HashMap<String, String>);

impl Class {
    /// Takes the parameters of a request.
    pub fn new(parameters: HashMap<String, String>) -> Class {
        Class(parameters)
    }

    fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(NAMES.contains(&name), "'{name}' is missing in NAMES");
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn required(&self, name: &str) -> Result<&str, Status> {
        self.get(name).ok_or_else(|| {
            Status::invalid_argument(format!(
                "the parameter '{name}' is missing; set it in the storage class"
            ))
        })
    }

    /// Returns the cluster's name in the file of clusters.
    pub fn cluster(&self) -> Result<&str, Status> {
        self.required("clusterID")
    }

    /// Returns the pool of the images.
    pub fn pool(&self) -> Result<&str, Status> {
        self.required("pool")
    }

    /// Returns the namespace, if the class names one.
    pub fn namespace(&self) -> Option<&str> {
        self.get("radosNamespace")
    }

    /// Returns the data pool, if the class names one.
    pub fn data_pool(&self) -> Option<&str> {
        self.get("dataPool")
    }

    /// Returns the features of new images.
    pub fn features(&self) -> Result<Features, Status> {
        let Some(names) = self.get("imageFeatures") else { return Ok(Features::DEFAULT) };
        let features: Features = names.parse().map_err(|error: rbd::Error| {
            Status::invalid_argument(format!("the parameter 'imageFeatures' of the storage class: {error}"))
        })?;
        // Layering, because a volume may become the source of another one.
        Ok(features | Features::LAYERING)
    }

    /// Returns the first part of the names of images.
    pub fn volume_prefix(&self) -> &str {
        self.get("volumeNamePrefix").unwrap_or("csi-vol-")
    }

    /// Returns the first part of the names of snapshots.
    pub fn snapshot_prefix(&self) -> &str {
        self.get("snapshotNamePrefix").unwrap_or("csi-snap-")
    }

    /// Returns the first part of the names of groups.
    pub fn group_prefix(&self) -> &str {
        self.get("volumeGroupNamePrefix").unwrap_or("csi-group-")
    }

    /// Returns the size of objects, the stripe unit in bytes and the stripe count, if the class
    /// names them.
    pub fn layout(&self) -> Result<Layout, Status> {
        Ok(Layout {
            object_size: self.number("objectSize")?,
            stripe_unit: self.number("stripeUnit")?,
            stripe_count: self.number("stripeCount")?,
        })
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Status> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            Status::invalid_argument(format!(
                "the parameter '{name}' is '{text}'; it must be a whole number without a unit, such as 65536"
            ))
        })
    }

    fn switch(&self, name: &str) -> Result<bool, Status> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(text) => Err(Status::invalid_argument(format!(
                "the parameter '{name}' is '{text}'; it must be 'true' or 'false'"
            ))),
        }
    }

    /// Returns the options of the kernel's client. Existing classes may write `krbd:…` before them,
    /// and `;` between the parts for different clients.
    pub fn map_options(&self) -> Result<String, Status> {
        let Some(text) = self.get("mapOptions") else { return Ok(String::new()) };
        let mut options = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once(':') {
                Some(("krbd", part)) => options.push(part.to_owned()),
                Some(("nbd", _)) => {}
                // An option may have a colon in its value (crush_location).
                _ => options.push(part.to_owned()),
            }
        }
        Ok(options.join(","))
    }

    /// Returns whether a node may disable features that its kernel does not support.
    pub fn fix_features(&self) -> Result<bool, Status> {
        self.switch("fixFeatures")
    }

    /// Returns the options for the program that makes the file system.
    pub fn mkfs_options(&self) -> Vec<String> {
        self.get("mkfsOptions").unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    }

    /// Refuses what this driver cannot do, before anything is touched.
    pub fn check(&self) -> Result<(), Status> {
        if self.switch("encrypted")? {
            return Err(Status::invalid_argument(
                "the parameter 'encrypted' is not supported: set it to 'false', or leave it out",
            ));
        }
        if let Some(mounter) = self.get("mounter")
            && mounter != "rbd"
        {
            return Err(Status::invalid_argument(format!(
                "the parameter 'mounter' is '{mounter}'; this driver maps through the kernel only: set it to \
                 'rbd', or leave it out"
            )));
        }
        if self.get("topologyConstrainedPools").is_some() {
            return Err(Status::invalid_argument(
                "the parameter 'topologyConstrainedPools' is not supported: leave it out, and make a storage \
                 class with its own 'pool' for each topology",
            ));
        }
        let options = self.map_options()?;
        options.parse::<rbd::krbd::MapOptions>().map_err(|error| {
            Status::invalid_argument(format!("the parameter 'mapOptions' of the storage class: {error}"))
        })?;
        self.features()?;
        self.layout()?;
        self.fix_features()?;
        Ok(())
    }

    /// Checks the parameters of a new volume. Also refuses a misspelt name, which would be ignored
    /// silently.
    pub fn check_new(&self) -> Result<(), Status> {
        self.check()?;
        for name in self.unread() {
            if let Some(meant) = slips::meant(name, &NAMES) {
                return Err(Status::invalid_argument(format!(
                    "the parameter '{name}' of the class is not known; is '{meant}' meant?"
                )));
            }
        }
        if let Some(namespace) = self.namespace()
            && namespace.contains(':')
        {
            return Err(Status::invalid_argument(format!(
                "the parameter 'radosNamespace' is '{namespace}'; the ids of volumes have colons between \
                 their parts, so use a namespace without one"
            )));
        }
        let layout = self.layout()?;
        if layout.stripe_unit.is_some() != layout.stripe_count.is_some() {
            return Err(Status::invalid_argument(
                "the parameters 'stripeUnit' and 'stripeCount' go together: set both, or neither",
            ));
        }
        Ok(())
    }

    /// Checks the parameters of a new object. Logs those that this driver does not read: classes of
    /// other drivers have more of them.
    pub fn read_new(parameters: HashMap<String, String>) -> Result<Class, Status> {
        let class = Class::new(parameters);
        class.check_new()?;
        for name in class.unread() {
            tracing::warn!(name, "this driver does not read this parameter of the class");
        }
        Ok(class)
    }

    /// Returns the names that this driver does not read, in order. Names that begin with
    /// `csi.storage.k8s.io/` are read by Kubernetes' own containers.
    pub fn unread(&self) -> Vec<&str> {
        let mut unread: Vec<&str> = self.0.keys().map(|name| &**name).collect();
        unread.retain(|name| !NAMES.contains(name) && !name.starts_with("csi.storage.k8s.io/"));
        unread.sort_unstable();
        unread
    }

    /// Returns the parameters that the nodes need.
    pub fn into_context(self) -> HashMap<String, String> {
        let mut context = self.0;
        context.retain(|name, _| !name.starts_with("csi.storage.k8s.io/") || name.ends_with("/fstype"));
        context
    }
}

/// The layout of the data in objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of an object.
    pub object_size: Option<u64>,
    /// Bytes of a stripe unit.
    pub stripe_unit: Option<u64>,
    /// The number of objects in a stripe.
    pub stripe_count: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(parameters: &[(&str, &str)]) -> Class {
        Class(parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn classes_of_the_field_are_read() {
        let class = class(&[
            ("clusterID", "rook-ceph"),
            ("pool", "replicapool"),
            ("dataPool", "ec"),
            ("imageFormat", "2"),
            ("imageFeatures", "layering, exclusive-lock"),
            ("mapOptions", "krbd:ms_mode=secure,queue_depth=64;nbd:timeout=5"),
            ("mkfsOptions", "-m0 -Enodiscard"),
            ("csi.storage.k8s.io/fstype", "xfs"),
            ("csi.storage.k8s.io/pvc/name", "claim"),
            ("encrypted", "false"),
            ("mounter", "rbd"),
        ]);
        class.check_new().unwrap();
        assert_eq!(class.features().unwrap(), Features::LAYERING | Features::EXCLUSIVE_LOCK);
        assert_eq!(class.map_options().unwrap(), "ms_mode=secure,queue_depth=64");
        assert_eq!(class.mkfs_options(), ["-m0", "-Enodiscard"]);
        assert_eq!(class.unread(), ["imageFormat"]);
        let context = class.into_context();
        assert!(!context.contains_key("csi.storage.k8s.io/pvc/name") && context.contains_key("pool"));
    }

    #[test]
    fn the_error_of_a_map_option_lists_the_known_ones() {
        let status = class(&[("mapOptions", "krbd:queue_dept=64,ms_mode=crc")]).check_new().unwrap_err();
        let told = status.message();
        for part in [
            "the parameter 'mapOptions' of the storage class: ",
            "'queue_dept': it is none of the known options of a mapping, which are ro, rw, exclusive, ",
            "queue_depth, ",
            "; correct the name, or leave the option out",
        ] {
            assert!(told.contains(part), "no '{part}' in: {told}");
        }
        let status = class(&[("mapOptions", "secret=AQBiKBxYuPXiJRAAsupnTBsURoWzb0k00oM3iQ==")]).check();
        let told = status.unwrap_err().message().to_owned();
        assert!(told.ends_with("leave it out") && !told.contains("AQBi"), "{told}");
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for parameter in [
            ("encrypted", "true"),
            ("encrypted", "yes"),
            ("mounter", "rbd-nbd"),
            ("mapOptions", "nonsense=1"),
            ("imageFeatures", "layering,fast"),
            ("objectSize", "4M"),
            ("fixFeatures", "1"),
            ("topologyConstrainedPools", "[]"),
        ] {
            let status = class(&[parameter]).check().unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{parameter:?}");
        }
        for parameters in [
            &[("datapool", "ec")][..],
            &[("imageFeature", "layering")],
            &[("stripeUnit", "65536")],
            &[("radosNamespace", "a:b")],
        ] {
            // An existing volume must stay usable.
            class(parameters).check().unwrap();
            let status = class(parameters).check_new().unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{parameters:?}");
        }
        assert_eq!(class(&[("pool", " ")]).pool().unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
