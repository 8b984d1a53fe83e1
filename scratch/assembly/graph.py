import grimp
g=grimp.build_graph("xuankan","xuankan_worker", include_external_packages=False)
import collections
def top(m,n=2): return ".".join(m.split(".")[:n])
e=collections.Counter(); x=collections.defaultdict(set)
for m in g.modules:
    for d in g.find_modules_directly_imported_by(m):
        a,b=top(m),top(d)
        if a==b: continue
        if a.startswith("xuankan_worker.") and b.startswith("xuankan.") or b=="xuankan": x[a].add(b)
        elif a.split(".")[0]==b.split(".")[0]: e[(a,b)]+=1
for a in sorted(x): print("X",a,sorted(x[a]))
for (a,b),n in sorted(e.items()): print(a,"->",b,n)
