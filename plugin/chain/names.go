package chain

// names has something by name. A walk knows few: these are found without a map as soon as with one, and take less
// memory. The zero value has none.
type names[V any] struct {
	few  []named[V]
	many map[string]V // of all, once they are many; else nil
}

type named[V any] struct {
	name  string
	value V
}

const fewNames = 8

// at returns what there is for a name; the zero value if nothing is.
func (n *names[V]) at(name string) (value V) {
	if n.many != nil {
		return n.many[name]
	}
	for i := range n.few {
		if n.few[i].name == name {
			return n.few[i].value
		}
	}
	return value
}

func (n *names[V]) set(name string, value V) {
	if n.many != nil {
		n.many[name] = value
		return
	}
	for i := range n.few {
		if n.few[i].name == name {
			n.few[i].value = value
			return
		}
	}
	if len(n.few) < fewNames {
		n.few = append(n.few, named[V]{name, value})
		return
	}
	n.many = map[string]V{name: value}
	for _, of := range n.few {
		n.many[of.name] = of.value
	}
	n.few = nil
}

// all yields names and values, in no order.
func (n *names[V]) all(yield func(name string, value V) bool) {
	for _, of := range n.few {
		if !yield(of.name, of.value) {
			return
		}
	}
	for name, value := range n.many {
		if !yield(name, value) {
			return
		}
	}
}
