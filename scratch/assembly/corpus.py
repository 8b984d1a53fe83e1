from pathlib import Path; import os, numpy as np
from xuankan.catalogue.model import Catalogue
from xuankan.protocol.template import Template
from xuankan_worker.releases.corpus import *
from xuankan_worker.releases.training_data import TrainingData
A=Path('artifacts'); cat=Catalogue.load(A/'catalogue/catalogue.json.gz')
p=read_corpus(Path('data/papers.parquet'),['train','late'],cat); print(len(p.title), p.title[:2],p.link[:3])
D=TrainingData.load(A/'data.npz'); t={j.title:i for i,j in enumerate(cat)}
assert [t[x] for x in p.journal]==[*D.splits['train'].truth.tolist(),*D.splits['late'].truth.tolist()]
write_corpus(A/'release/corpus.npz',p,cat,Template.default()); print(os.path.getsize(A/'release/corpus.npz')/1e6)
z=np.load(A/'release/corpus.npz'); import zipfile
for i in zipfile.ZipFile(A/'release/corpus.npz').infolist(): print(i.filename,i.compress_size)
