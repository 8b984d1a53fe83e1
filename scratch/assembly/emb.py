for n in ('minilm','mpnet'):
    while not (W/n/'late'/'training.json').exists(): time.sleep(.5)
    time.sleep(1.5); r=recipe(n,n,first=W/'minilm'); e=r.load_encoder('late')
    c=joined(DATA.splits['train'],DATA.splits['late']); v=r.encode(e,c).embeddings
    np.save(W/n/'late-emb.npy',np.rint(v*127/np.abs(v).max(1,keepdims=True)).astype(np.int8)); say(n,'embedded')
from safetensors.numpy import load_file
from xuankan_worker.releases.rounding import rounded
a=load_file(W/'mpnet'/'late'/'model.safetensors'); b=load_file(W/'mpnet'/'model.safetensors'); d={}
for k,v in a.items():
    if 'word_embeddings' in k: continue
    o=b.get(k, b.get(k.split('.',1)[1]))
    d[k]=v.astype(np.float32)-o if o is not None and o.shape==v.shape else v.astype(np.float32)
np.savez(W/'mpnet-delta.tmp.npz',**rounded(d)); os.rename(W/'mpnet-delta.tmp.npz',W/'mpnet-delta.npz'); say('delta',os.path.getsize(W/'mpnet-delta.npz'))
