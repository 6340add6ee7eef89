"""Dataclasses, enums, descriptors, properties, metaclasses, named tuples, operators."""
import enum
import functools
from collections import namedtuple
from dataclasses import asdict, dataclass, field, replace


class Color(enum.Enum):
    RED = 1
    GREEN = 2

    @property
    def other(self):
        return Color.GREEN if self is Color.RED else Color.RED


class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()


class Typed:
    def __set_name__(self, owner, name):
        self.name = "_" + name

    def __get__(self, instance, owner):
        return getattr(instance, self.name, 0)

    def __set__(self, instance, value):
        setattr(instance, self.name, int(value))


class Registry(type):
    seen = []

    def __new__(mcs, name, bases, namespace, **kw):
        mcs.seen.append(name)
        return super().__new__(mcs, name, bases, namespace, **kw)


class Base(metaclass=Registry):
    size = Typed()

    def __init_subclass__(cls, **kw):
        cls.options = kw


class Derived(Base, tall=True):
    def __init__(self):
        self.size = "12"


@functools.total_ordering
@dataclass
class Version:
    major: int
    minor: int = 0
    tags: list = field(default_factory=list)

    def __lt__(self, other):
        return (self.major, self.minor) < (other.major, other.minor)


Point = namedtuple("Point", "x y")

print(Color.RED.other, Flags.A | Flags.B, list(Color))
print(Registry.seen, Derived.options, Derived().size)
print(sorted([Version(2, 1), Version(1, 9, ["a"]), Version(2)]), asdict(replace(Version(3), minor=4)))
print(max(Point(1, 2), Point(1, 3)), Version(1) >= Version(0, 9), {Color.RED: 1}[Color(1)])
