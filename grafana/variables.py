"""The variables of dashboards, and what of them stands in a query."""

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

Variable = Builder[model.VariableModel]
_ALL = ".*"

SOURCE = model.DataSourceRef(type_val="prometheus", uid="$datasource")

DATASOURCE: Variable = (
    build.DatasourceVariable("datasource")
    .label("Data source")
    .description("Prometheus, VictoriaMetrics, Mimir or Thanos with Wattkeeper's recording rules.")
    .type("prometheus")
)
KIND: Variable = (
    build.CustomVariable("kind")
    .label("Kind of group")
    .description("A kind from `groups` in aggregator.toml; others than these can be typed in.")
    .values("rack,row,pdu,room")
    .current(model.VariableOption(text="rack", value="rack"))
    .allow_custom_value(True)
)


def _values(name: str, label: str, description: str, of: str) -> build.QueryVariable:
    """Return a variable with the values of a label, as they were in the time that is shown."""
    return (
        build.QueryVariable(name)
        .label(label)
        .description(description)
        .query({"query": f"label_values({of})", "refId": name})
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
    )


def _several(variable: build.QueryVariable) -> build.QueryVariable:
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    return variable.multi(True).include_all(True).all_value(_ALL).current(everything)


def _hidden(variable: build.QueryVariable) -> build.QueryVariable:
    """Return a variable that nobody chooses: all of its values, and no others, go into queries."""
    everything = model.VariableOption(selected=True, text="All", value="$__all")
    return (
        variable.multi(True)
        .include_all(True)
        .current(everything)
        .hide(model.VariableHide.HIDE_VARIABLE)
    )


CLUSTER: Variable = _several(
    _values(
        "cluster",
        "Cluster",
        "A cluster, as the aggregator has it.",
        "wattkeeper_node_info, cluster",
    )
)
GROUP: Variable = _several(
    _values(
        "group", "Group", "Groups of that kind.", 'wattkeeper_node_info{cluster=~"$cluster"}, $kind'
    )
)
NODE: Variable = _values(
    "node",
    "Node",
    "One node.",
    'wattkeeper_node_info{cluster=~"$cluster", $kind=~"$group"}, node',
)
ACCOUNT: Variable = _several(
    _values(
        "account",
        "Account",
        "Accounts, or namespaces without one.",
        'wattkeeper_account_energy_joules_total{cluster=~"$cluster"}, account',
    )
)
JOB: Variable = _values(
    "job",
    "Job",
    "A job that ran in the time that is shown, by its number.",
    'wattkeeper_workload_info{cluster=~"$cluster", account=~"$account"}, job_id',
)
WORKLOAD: Variable = _hidden(
    _values(
        "workload",
        "Workload",
        "The ids that nodes have for the job.",
        'wattkeeper_workload_info{cluster=~"$cluster", job_id="$job"}, workload',
    )
)
PLACE: Variable = _hidden(
    _values(
        "place",
        "Place",
        "The nodes on which the job holds anything.",
        'wattkeeper_holder_ratio{cluster=~"$cluster", workload=~"$workload"}, node',
    )
)
BUDGET: Variable = _several(
    _values("budget", "Budget", "Budgets by name.", "wattkeeper_budget_info, budget")
)


def in_groups(expr: str) -> str:
    """Return an expression by cluster and node with its groups, of the chosen ones alone."""
    chosen = 'wattkeeper_node_info{cluster=~"$cluster", $kind=~"$group"}'
    return f"{expr} * on (cluster, node) group_left ($kind) {chosen}"
