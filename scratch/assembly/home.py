# python3 home.py NAME=DIR ... : weights without the frozen words, float16, in pieces of 15 MB
import sys,io,os,numpy as np
from safetensors.numpy import load_file
O=os.environ['OUT']
for a in sys.argv[1:]:
    n,d=a.split('='); x=load_file(d+'/model.safetensors'); keep={}
    for k,v in x.items():
        if 'word_embeddings' in k: v=v[30522:]
        if v.size: keep[k]=v.astype(np.float16)
    b=io.BytesIO(); np.savez(b,**keep); b=b.getvalue()
    for i in range(0,len(b),15_000_000): open(f'{O}/{n}.{i//15_000_000}','wb').write(b[i:i+15_000_000])
    open(f'{O}/{n}.json','wb').write(open(d+'/training.json','rb').read())
