# python3 hold.py WHAT: waits for nothing, writes what is there to $OUT
import sys,io,os,json,numpy as np,shutil
sys.path.insert(0,'scratch-tmp/w/src')
from pathlib import Path
from safetensors.numpy import load_file
O=Path(os.environ['OUT']); W=Path('scratch-tmp/w')
def put(n,b):
    for i in range(0,len(b),15_500_000): (O/f'{n}.{i//15_500_000}').write_bytes(b[i:i+15_500_000])
def weights(n,d):
    x=load_file(d/'model.safetensors'); keep={}
    for k,v in x.items():
        if 'word_embeddings' in k: v=v[30522:]
        if v.size: keep[k]=v.astype(np.float16)
    b=io.BytesIO(); np.savez(b,**keep); put(n,b.getvalue()); shutil.copy(d/'training.json',O/f'{n}.json')
what=sys.argv[1]
if what=='enc': weights('minilm-encoder',W/'minilm/encoder'); weights('minilm-late',W/'minilm/late')
if what=='ce': weights('cross-encoder',W/'minilm/cross-encoder'); shutil.copy(W/'minilm/rows-dev.npz',O/'minilm-rows-dev.npz'); np.savez(O/'honest.npz',weights=np.load(W/'minilm/honest.npz')['weights'])
if what=='scores':
    for n in ('minilm','mpnet'):
        for s in ('dev','test','transfer'):
            p=W/n/f'late-{s}.npz'
            if p.exists(): shutil.copy(p,O/f'{n}-late-{s}.npz')
if what=='mrows': shutil.copy(W/'mpnet/rows-dev.npz',O/'mpnet-rows-dev.npz'); shutil.copy(W/'mpnet/late/training.json',O/'mpnet-late.json')
if what=='emb':
    for n in ('minilm','mpnet'):
        p=W/n/'late-emb.npy'
        if p.exists(): put(f'{n}-emb',p.read_bytes())
if what=='delta':
    p=W/'mpnet-delta.npz'; b=p.read_bytes(); part=int(sys.argv[2])
    for i in range(4*part,4*part+4):
        c=b[i*15_500_000:(i+1)*15_500_000]
        if c: (O/f'mpnet-delta.{i}').write_bytes(c)
    print('delta bytes',len(b))
if what=='held':
    shutil.copy(W/'held/dev.npz',O/'held-dev.npz'); put('held-train',(W/'held/train.npz').read_bytes())
