"""What a PromQL expression asks for: whether each name is known, and each label is one that it has there."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import promql_parser as promql

Labels = frozenset[str]

_KEEPING = frozenset({"topk", "bottomk", "limitk", "limit_ratio"})
"""Aggregations whose result are series of their input."""

_SCALARS = frozenset({"time", "scalar", "pi"})
_OF_SIDE = frozenset({"and", "unless", "==", "!=", "<", ">", "<=", ">="})
"""Operators whose result are series of their left side."""


class Rule(NamedTuple):
    """A rule that records a series, with the labels that it adds."""

    name: str
    query: str
    labels: Labels


@dataclass
class Vocabulary:
    """The series that there are, with their labels, and the values of labels that have no others."""

    series: Mapping[str, Labels]
    bounded: Callable[[str, str], list[str] | None] = lambda _name, _label: None
    errors: list[str] = field(default_factory=list)

    def check(self, query: str) -> list[str]:
        """Return what is wrong with a query."""
        self.errors = []
        try:
            expression = promql.parse(query)
        except ValueError as error:
            return [str(error)]
        self.labels_of(expression)
        return self.errors

    def labels_of(self, expression: promql.Expr) -> Labels | None:
        """Return the labels that the result may have, None for a number or text; `errors` gets what is unknown."""
        match expression:
            case promql.VectorSelector():
                return self._selected(expression)
            case promql.MatrixSelector():
                return self._selected(expression.vector_selector)
            case promql.SubqueryExpr() | promql.ParenExpr() | promql.UnaryExpr():
                return self.labels_of(expression.expr)
            case promql.AggregateExpr():
                return self._aggregated(expression)
            case promql.BinaryExpr():
                return self._combined(expression)
            case promql.Call():
                return self._called(expression)
            case _:
                return None

    def _selected(self, selector: promql.VectorSelector) -> Labels:
        matchers = [matcher for matcher in selector.matchers.matchers if matcher.name != "__name__"]
        name = selector.name or next((each.value for each in selector.matchers.matchers if each not in matchers), "")
        labels = self.series.get(name)
        if labels is None:
            self.errors.append(f"{name}: unknown metric")
            return frozenset(matcher.name for matcher in matchers)
        for matcher in matchers:
            self._need({matcher.name}, labels, name)
            self._check_value(name, matcher)
        return labels

    def _check_value(self, name: str, matcher: promql.Matcher) -> None:
        values = self.bounded(name, matcher.name)
        if values is None or not matcher.value or "$" in matcher.value:  # `$` begins a variable of a dashboard
            return
        is_pattern = matcher.op in (promql.MatchOp.Re, promql.MatchOp.NotRe)
        # Each alternative by itself: one that is misspelt would do nothing for ever.
        has_alternatives = is_pattern and "(" not in matcher.value
        for wanted in matcher.value.split("|") if has_alternatives else [matcher.value]:
            if not any(re.fullmatch(wanted, value) if is_pattern else wanted == value for value in values):
                self.errors.append(f"{name}: {matcher.name} is never {wanted!r}")

    def _aggregated(self, aggregate: promql.AggregateExpr) -> Labels:
        labels = self.labels_of(aggregate.expr) or frozenset()
        operator = str(aggregate.op)
        if operator in _KEEPING:
            return labels
        if aggregate.modifier is None:
            kept: Labels = frozenset()
        else:
            named = frozenset(aggregate.modifier.labels)
            self._need(named, labels, operator)
            kept = named if aggregate.modifier.type == promql.AggModifierType.By else labels - named
        if operator == "count_values" and aggregate.param is not None:
            return kept | {aggregate.param.val}
        return kept

    def _combined(self, binary: promql.BinaryExpr) -> Labels | None:
        left, right = self.labels_of(binary.lhs), self.labels_of(binary.rhs)
        if left is None or right is None:
            return right if left is None else left
        modifier, operator = binary.modifier, str(binary.op)
        result = left | right if operator == "or" else left
        if modifier is None or modifier.matching is None:
            return result
        named = frozenset(modifier.matching.labels)
        for side in (left, right):
            self._need(named, side, operator)
        one_to_one = modifier.card == promql.VectorMatchCardinality.OneToOne
        if one_to_one and operator not in {*_OF_SIDE, "or"}:
            on = modifier.matching.type == promql.LabelModifierType.Include
            return named if on else result - named
        group = frozenset(modifier.group_labels or ())
        if modifier.card == promql.VectorMatchCardinality.OneToMany:  # group_right
            self._need(group, left, operator)
            return right | group
        self._need(group, right, operator)
        return result | group

    def _called(self, call: promql.Call) -> Labels | None:
        name = call.func.name
        arguments = [self.labels_of(argument) or frozenset() for argument in call.args]
        if name in _SCALARS:
            return None
        labels: Labels = frozenset().union(*arguments)
        if name == "histogram_quantile":
            self._need({"le"}, labels, name)
            return labels - {"le"}
        if name in {"label_replace", "label_join"}:
            return labels | {call.args[1].val}
        return labels

    def _need(self, wanted: set[str] | Labels, labels: Labels, place: str) -> None:
        self.errors.extend(f"{place}: no label {label!r}" for label in sorted(wanted - labels))


def recorded(rules: Sequence[Rule], vocabulary: Vocabulary) -> dict[str, Labels]:
    """Return the series that rules record, with their labels, as far as those of `vocabulary` let them be known."""
    series: dict[str, Labels] = {}
    waiting = list(rules)
    while waiting:
        known = Vocabulary({**vocabulary.series, **series})
        ready = [rule for rule in waiting if not known.check(rule.query)]
        if not ready:
            break
        for rule in ready:
            labels = known.labels_of(promql.parse(rule.query)) or frozenset()
            series[rule.name] = series.get(rule.name, frozenset()) | labels | rule.labels
            waiting.remove(rule)
    return series
