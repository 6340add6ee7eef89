"""One-way constraints between variables, after the idea of DeltaBlue: a chain of equalities, and a scale with an offset at its end, are planned, solved and changed. argv[1]: rounds.
Prints how many constraints were executed, the seconds, and the CPU seconds of the process."""
import sys
from time import perf_counter, process_time

REQUIRED, STRONG, WEAK = 0, 1, 2


class Variable:
    def __init__(self, value):
        self.value, self.constraints, self.determined, self.mark = value, [], None, 0


class Constraint:
    def __init__(self, strength, *variables):
        self.strength, self.variables = strength, variables
        for variable in variables:
            variable.constraints.append(self)

    def inputs(self):
        return self.variables[:-1]

    def output(self):
        return self.variables[-1]

    def inputs_known(self, mark):
        return all(variable.mark == mark for variable in self.inputs())

    def weaker(self, other):
        return self.strength > other.strength


class Edit(Constraint):
    def execute(self):
        pass


class Equal(Constraint):
    def execute(self):
        self.output().value = self.inputs()[0].value


class Scale(Constraint):
    def execute(self):
        source, scale, offset = self.inputs()
        self.output().value = source.value * scale.value + offset.value


def consumers(variable):
    return [c for c in variable.constraints if c is not variable.determined and c.output() is not variable]


class Planner:
    mark = 0

    def plan(self, edits):
        """The constraints in an order in which each has its inputs when it is its turn."""
        self.mark += 1
        order, todo = [], list(edits)
        while todo:
            constraint = todo.pop()
            output = constraint.output()
            if output.mark == self.mark or not constraint.inputs_known(self.mark):
                continue
            if output.determined is None or not constraint.weaker(output.determined):
                output.determined = constraint
            output.mark = self.mark
            order.append(constraint)
            todo.extend(consumers(output))
        return order


executed = 0


def perform(order):
    global executed
    for constraint in order:
        executed += 1
        step(constraint)


def step(constraint):
    constraint.execute()


def run(length):
    chain = [Variable(0) for _ in range(length)]
    for a, b in zip(chain, chain[1:]):
        Equal(REQUIRED, a, b)
    scale, offset, end = Variable(10), Variable(1000), Variable(0)
    Scale(REQUIRED, chain[-1], scale, offset, end)
    edits = [Edit(WEAK, offset), Edit(WEAK, scale), Edit(STRONG, chain[0])]
    planner = Planner()
    for n in range(10):
        order = planner.plan(edits)
        chain[0].value = n
        perform(order)
        assert end.value == n * 10 + 1000


started = perf_counter()
for _ in range(int(sys.argv[1])):
    run(100)
print(executed, perf_counter() - started, process_time())
