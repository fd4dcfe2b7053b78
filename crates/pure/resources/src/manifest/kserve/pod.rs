//! Fields that KServe's predictor takes over from Kubernetes' pod and container.

use super::table::{Field, no, not};

const NO_CONTAINERS: &str = "Berth runs no containers: export the model to ONNX and write `model`";
const ONE_MACHINE: &str = "there is one machine";
const NO_ACCOUNTS: &str = "a replica has no account: Berth's keys say who may call it";
const SANDBOXED: &str = "every runtime is sandboxed already, docs/reference/sandbox.md";
const NO_NETWORK: &str = "a replica has no network but its socket";
const NO_POD: &str = "a replica is a process, not a pod";
const NO_FILES: &str = "a replica sees its model and nothing else: what the model needs goes into its bundle";
const PROBED: &str = "replicas are probed already";
const OWN_SERVER: &str = "it is for another server: Berth has one runtime for every format";
const SUPERVISED: &str = "replicas that end are started again";

/// Fields of the pod, beside those of the predictor.
pub(super) static POD: &[Field] = &[
    no("containers", NO_CONTAINERS),
    no("initContainers", "Berth runs no containers: prepare the model before it is applied"),
    no("ephemeralContainers", "Berth runs no containers: leave it out"),
    no("resources", "write it under `model`"),
    no("resourceClaims", "models run on CPUs: leave it out"),
    not("volumes", NO_FILES),
    not("imagePullSecrets", NO_POD),
    not("serviceAccountName", NO_ACCOUNTS),
    not("serviceAccount", NO_ACCOUNTS),
    not("automountServiceAccountToken", NO_ACCOUNTS),
    not("securityContext", SANDBOXED),
    not("hostUsers", SANDBOXED),
    not("runtimeClassName", SANDBOXED),
    not("nodeSelector", ONE_MACHINE),
    not("nodeName", ONE_MACHINE),
    not("affinity", ONE_MACHINE),
    not("tolerations", ONE_MACHINE),
    not("topologySpreadConstraints", ONE_MACHINE),
    not("schedulerName", ONE_MACHINE),
    not("schedulingGates", ONE_MACHINE),
    not("schedulingGroup", ONE_MACHINE),
    not("workloadRef", ONE_MACHINE),
    not("priorityClassName", ONE_MACHINE),
    not("priority", ONE_MACHINE),
    not("preemptionPolicy", ONE_MACHINE),
    not("overhead", ONE_MACHINE),
    not("os", ONE_MACHINE),
    not("hostNetwork", NO_NETWORK),
    not("hostAliases", NO_NETWORK),
    not("hostname", NO_NETWORK),
    not("hostnameOverride", NO_NETWORK),
    not("subdomain", NO_NETWORK),
    not("setHostnameAsFQDN", NO_NETWORK),
    not("dnsPolicy", NO_NETWORK),
    not("dnsConfig", NO_NETWORK),
    not("enableServiceLinks", NO_NETWORK),
    not("hostPID", NO_POD),
    not("hostIPC", NO_POD),
    not("shareProcessNamespace", NO_POD),
    not("restartPolicy", SUPERVISED),
    not("activeDeadlineSeconds", SUPERVISED),
    not("readinessGates", PROBED),
    not("terminationGracePeriodSeconds", "a replica finishes its requests within 30 s"),
];

/// Fields of the container, beside those of the model.
pub(super) static CONTAINER: &[Field] = &[
    no("image", NO_CONTAINERS),
    no("command", NO_CONTAINERS),
    not("args", OWN_SERVER),
    not("env", OWN_SERVER),
    not("envFrom", OWN_SERVER),
    not("name", NO_POD),
    not("workingDir", NO_POD),
    not("ports", "the gateway has one port for REST and gRPC: `berth up --listen`"),
    not("volumeMounts", NO_FILES),
    not("volumeDevices", NO_FILES),
    not("imagePullPolicy", NO_POD),
    not("securityContext", SANDBOXED),
    not("livenessProbe", PROBED),
    not("readinessProbe", PROBED),
    not("startupProbe", PROBED),
    not("lifecycle", NO_POD),
    not("restartPolicy", SUPERVISED),
    not("restartPolicyRules", SUPERVISED),
    not("resizePolicy", "a change of `resources` makes a new revision"),
    not("terminationMessagePath", "`berth logs` and `berth events` say why a replica ended"),
    not("terminationMessagePolicy", "`berth logs` and `berth events` say why a replica ended"),
    not("stdin", NO_POD),
    not("stdinOnce", NO_POD),
    not("tty", NO_POD),
];
