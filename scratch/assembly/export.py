import numpy as np, time, json, sys
from pathlib import Path
from safetensors.numpy import load_file, save_file
from xuankan.protocol.template import Template
from xuankan_worker.releases.rounding import rounded, restored
from xuankan_worker.releases.checkpoint import Checkpoint
from xuankan_worker.releases.training_data import TrainingData
from xuankan_worker.releases.retrieval_graph import write_retrieval_graph
from xuankan_worker.releases.quantize import quantize, Pair, METHODS
from xuankan_worker.engines.runtime import open_session
A=Path('artifacts'); d=A/'minilm-late'; d.mkdir(exist_ok=True)
pub=load_file(A/'minilm/model.safetensors'); w=restored(rounded({'w':pub['embeddings.word_embeddings.weight']}))['w']
with np.load(A/'home/minilm-late.bin') as z: t={k:z[k] for k in z.files}
t['bert.embeddings.word_embeddings.weight']=w.astype(np.float16); save_file(t,d/'model.safetensors')
(d/'config.json').write_bytes((A/'minilm/config.json').read_bytes()); (d/'tokenizer.json').write_bytes((A/'minilm/tokenizer.json').read_bytes()); (d/'training.json').write_bytes((A/'home/minilm-late.json').read_bytes())
c=Checkpoint.load(d,scores=False)
e=np.frombuffer((A/'home/minilm-emb.bin').read_bytes(),np.uint8); print(e[:128].tobytes()[:80])
import io; e=np.load(io.BytesIO((A/'home/minilm-emb.bin').read_bytes())).astype(np.float32); e/=np.linalg.norm(e,axis=1,keepdims=True); print(e.shape)
D=TrainingData.load(A/'data.npz'); T=D.template; rng=np.random.default_rng(0)
tr=D.splits['train'].manuscripts
def row(r,i): return Pair(np.concatenate([[T.cls_id],r[i],[T.sep_id]]).astype(np.int32),len(r[i])+2)
small=write_retrieval_graph(c,e[:2000],64)
pairs=[row(tr,i) for i in rng.choice(len(tr),300,replace=False)]
t0=time.time(); q=quantize(small,pairs,METHODS[2:],lambda *a:None,'logits'); print(q.record,time.time()-t0)
method=next(m for m in METHODS if m.name==q.record.method)
json.dump({'method':q.record.method,'samples':q.record.samples,'score_error':dict(q.record.score_error)},open(A/'quant.json','w'))
full=write_retrieval_graph(c,e,1024)
from xuankan_worker.releases.quantize import _observe
from xuankan_worker.releases.int8 import Rewriter, nodes, is_token_dense
names=list(dict.fromkeys(n.input[0] for n in nodes(small) if is_token_dense(n)))
obs=_observe(small,names,[p for i,p in enumerate(pairs) if i%5],lambda *a:None)
m=Rewriter(full,obs,method).rewrite(); b=m.SerializeToString(); (A/'release').mkdir(exist_ok=True); (A/'release/encoder.onnx').write_bytes(b); print('encoder.onnx',len(b)/1e6)
